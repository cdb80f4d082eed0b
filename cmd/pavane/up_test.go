package main

import (
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pavane/internal/await"
)

// Without t.Parallel: it changes the environment, in which open looks for a
// browser.
func TestOpen_TokensOfTheAddress_AreInAFileForTheirOwnerAlone(t *testing.T) {
	dir, bin := t.TempDir(), t.TempDir()
	for _, name := range []string{"xdg-open", "open"} {
		script := "#!/bin/sh\nprintf '%s\\n' \"$0\" \"$@\" >\"$SHOWN.new\" && mv \"$SHOWN.new\" \"$SHOWN\"\n"
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	shown := filepath.Join(t.TempDir(), "shown")
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("SHOWN", shown)
	t.Setenv("DISPLAY", ":0")
	t.Setenv("CI", "")
	const page = "http://127.0.0.1:8080/#operator=OPERATORS-SECRET&token=a.b.c"
	if err := open(t.Context(), dir, page); err != nil {
		t.Fatal(err)
	}
	await.True(t, 10*time.Second, "the browser is started", func() bool { _, err := os.Stat(shown); return err == nil })
	raw, err := os.ReadFile(shown)
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if len(args) != 2 || strings.Contains(string(raw), "SECRET") || strings.Contains(string(raw), "a.b.c") {
		t.Fatalf("started with %q; want one file and no token", args)
	}
	if info, err := os.Stat(args[1]); err != nil || info.Mode().Perm() != 0o600 || !strings.HasPrefix(args[1], dir) {
		t.Errorf("%v, %v; want a file in %s for its owner alone", info, err, dir)
	}
	if text, err := os.ReadFile(args[1]); err != nil || !strings.Contains(string(text), `content="0; url=`+html.EscapeString(page)+`"`) {
		t.Errorf("%s, %v; want it to lead to %s", text, err, page)
	}
}
