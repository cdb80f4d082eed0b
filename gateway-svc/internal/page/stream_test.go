package page_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// streamed is what testdata/stream.mjs prints.
type streamed struct {
	Stopped bool  `json:"stopped"`
	States  []any `json:"states"`
	Pauses  []int `json:"pauses"`
}

// modules copies the page's modules to where node takes them for such.
func modules(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("files")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"type": "module"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run has node run a script of testdata, and reads into got what it prints as JSON.
func run(t *testing.T, got any, script string, args ...string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), node, append([]string{"testdata/" + script}, args...)...).Output() // #nosec G204 -- of this test
	if err == nil {
		err = json.Unmarshal(out, got)
	}
	if err != nil {
		t.Fatalf("%s %q: %v in %s", script, args, err, out)
	}
}

func TestStream_Refused_StopsOrWaitsAsLongAsItIsTold(t *testing.T) {
	t.Parallel()
	dir := modules(t)
	for name, c := range map[string]struct {
		answers []string
		stopped bool
		states  []any
		pauses  []int
	}{
		"no token":          {[]string{"401"}, true, []any{"401 why 401"}, []int{}},
		"not this token":    {[]string{"500", "403"}, true, []any{false, "403 why 403"}, []int{1000}},
		"too many":          {[]string{"429 7", "429"}, false, []any{false, false}, []int{7000, 1000}},
		"the log is silent": {[]string{"503 3", "503 0", "503 soon"}, false, []any{false, false, false}, []int{3000, 1000, 1000}},
		"a fault":           {[]string{"502 9"}, false, []any{false}, []int{1000}},
	} {
		var got streamed
		run(t, &got, "stream.mjs", append([]string{filepath.Join(dir, "stream.js")}, c.answers...)...)
		if got.Stopped != c.stopped || !slices.Equal(got.States, c.states) || !slices.Equal(got.Pauses, c.pauses) {
			t.Errorf("%s: %+v, want %+v", name, got, c)
		}
	}
}
