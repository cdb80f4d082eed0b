package page_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"pavane/gateway-svc/internal/page"
)

func get(t *testing.T, h http.Handler, path, etag string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	if etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

var linked = regexp.MustCompile(`(?:href|src)="(/page/[0-9a-f]+/[^"]+)"`)

func TestHandler_EveryFileThatThePageNeeds_IsServedForEver(t *testing.T) {
	t.Parallel()
	h := page.Handler([]byte(`{"events":[]}`))
	for _, path := range []string{"/", "/docs"} {
		reach(t, h, path)
	}
}

func reach(t *testing.T, h http.Handler, path string) {
	t.Helper()
	index := get(t, h, path, "")
	if index.Code != http.StatusOK || index.Header().Get("Cache-Control") != "no-cache" {
		t.Fatalf("%s is %d with %v", path, index.Code, index.Header())
	}
	found := linked.FindAllStringSubmatch(index.Body.String(), -1)
	if len(found) < 3 {
		t.Fatalf("the page links %v", found)
	}
	before, _, ok := strings.Cut(index.Body.String(), `<script src="/page/again.js">`)
	if again := get(t, h, "/page/again.js", ""); !ok || linked.MatchString(before) || again.Code != http.StatusOK || again.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("what loads the page anew is %d with %v, and stands behind %q", again.Code, again.Header(), before)
	}
	for _, f := range found {
		walk(t, h, f[1], map[string]bool{})
	}
}

var imported = regexp.MustCompile(`from "\./([^"]+)"|URL\("([^"]+)", import`)

// walk asks for a file and all that it imports.
func walk(t *testing.T, h http.Handler, path string, done map[string]bool) {
	if done[path] {
		return
	}
	done[path] = true
	w := get(t, h, path, "")
	if w.Code != http.StatusOK || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Header().Get("Content-Type") == "" {
		t.Errorf("%s is %d with %v", path, w.Code, w.Header())
	}
	for _, m := range imported.FindAllStringSubmatch(w.Body.String(), -1) {
		walk(t, h, path[:strings.LastIndex(path, "/")+1]+m[1]+m[2], done)
	}
}

func TestHandler_PageIsKnown_AnswersNotModified(t *testing.T) {
	t.Parallel()
	h := page.Handler(nil)
	tag := get(t, h, "/", "").Header().Get("ETag")
	if w := get(t, h, "/", tag); tag == "" || w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("tag %q: %d with %d bytes", tag, w.Code, w.Body.Len())
	}
	if other := get(t, page.Handler([]byte("other")), "/", "").Header().Get("ETag"); other == tag {
		t.Error("another saga has the same tag")
	}
}

func TestHandler_Policy_LetsNoInlineScriptAndNoOtherHostIn(t *testing.T) {
	t.Parallel()
	h := page.Handler(nil)
	w := get(t, h, "/", "")
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
		t.Errorf("policy %q", policy)
	}
	for _, inline := range []string{"style=", "onclick=", "<style", "://"} {
		if strings.Contains(w.Body.String(), inline) {
			t.Errorf("the page holds %q", inline)
		}
	}
	if w := get(t, h, "/page/0/app.js", ""); w.Code != http.StatusNotFound {
		t.Errorf("a file of another version is %d", w.Code)
	}
}
