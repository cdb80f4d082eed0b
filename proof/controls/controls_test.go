package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

const root = "../.."

// A refactoring that moves what a control breaks shows here, before anybody
// runs the controls.
func TestControls_EachFitsTheCodeAndNamesATestThatIsThere(t *testing.T) {
	t.Parallel()
	controls, err := chosen("")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range controls {
		if _, err := c.broken(os.DirFS(root)); err != nil {
			t.Error(err)
		}
		if c.test != "" && !declared(t, c.pkg, topOf(c.test)) {
			t.Errorf("control %s: there is no test %s in %s", c.name, c.test, c.pkg)
		}
	}
}

func declared(t *testing.T, pkg, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`(?m)^func ` + test + `\(`)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if want.Match(b) {
			return true
		}
	}
	return false
}
