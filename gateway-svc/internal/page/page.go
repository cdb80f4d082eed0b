// Package page owns the page at the gateway's root, and that of the API and the
// events at /docs: plain HTML, CSS and ES modules from the binary. It is a client of the gateway's public API like any
// other and loads nothing from elsewhere.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
)

//go:embed files
var embedded embed.FS

const (
	saga = "saga.json"
	// again is of no version: any instance gives it to any page.
	again = "/page/again.js"
	// base is replaced in the pages by the folder of this version's files.
	base = "{{base}}"

	policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// pageAt is the file of a page, or of what its pages have in common with those of
// other versions; empty: there is none at that path.
func pageAt(path string) string {
	return map[string]string{"/": "index.html", "/docs": "docs.html", again: "again.js"}[path]
}

// Handler serves the pages at / and /docs and their files below /page/VERSION/. The version is
// a hash of them all, so browsers may keep the files for ever and still see a new
// page at once. Those of another version are not found, and again.js loads the page
// until all of its files are of one. Saga is the map of the saga, docs/saga.json.
func Handler(saga []byte) http.Handler {
	files := load(saga)
	version := versionOf(files)
	for _, name := range []string{pageAt("/"), pageAt("/docs")} {
		files[name] = bytes.ReplaceAll(files[name], []byte(base), []byte("/page/"+version))
	}
	tag := `"` + version + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, caching := strings.TrimPrefix(r.URL.Path, "/page/"+version+"/"), "public, max-age=31536000, immutable"
		if page := pageAt(r.URL.Path); page != "" {
			name, caching = page, "no-cache"
		}
		body, ok := files[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", contentType(name))
		h.Set("Cache-Control", caching)
		h.Set("ETag", tag)
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Write(body) //nolint:errcheck // the client is gone
	})
}

func load(sagaJSON []byte) map[string][]byte {
	files := map[string][]byte{saga: sagaJSON}
	entries, _ := fs.ReadDir(embedded, "files") // what is embedded can be read
	for _, e := range entries {
		files[e.Name()], _ = embedded.ReadFile("files/" + e.Name())
	}
	return files
}

func versionOf(files map[string][]byte) string {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	h := sha256.New()
	for _, name := range names {
		h.Write([]byte(name))
		h.Write(files[name])
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// contentType does not ask the machine's table of types, which may say anything.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return "application/json"
	}
}
