package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
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

func TestControls_DocumentsGiveTheirNumber(t *testing.T) {
	t.Parallel()
	controls, err := chosen("")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, says string }{
		{"README.md", "breaks %d rules on purpose"},
		{"docs/guarantees.md", "breaks one rule at a time, %d in all"},
		{"docs/guarantees.md", "| %d breakages, each noticed"},
	} {
		b, err := os.ReadFile(filepath.Join(root, c.file))
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(c.says, len(controls)); !strings.Contains(string(b), want) {
			t.Errorf("%s does not say %q", c.file, want)
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

func example(t *testing.T) control {
	t.Helper()
	c, err := parse("lost", "# A record\n# is lost.\npromise 1\nedit a.go\n-\tsend()\n-\tmark()\n+\tmark()\ntest shared/x TestX_Y/case@1\nsays got 0\n")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParse_ReadsWhatTheFileSays(t *testing.T) {
	t.Parallel()
	c := example(t)
	files, err := c.broken(fstest.MapFS{"a.go": {Data: []byte("{\n\tsend()\n\tmark()\n}")}})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.breaks, c.promise, c.pkg, c.test, topOf(c.test), exactly(c.test), files["a.go"]}
	want := []string{"A record is lost.", "1", "shared/x", "TestX_Y/case@1", "TestX_Y", "^TestX_Y$/^case@1$", "{\n\tmark()\n}"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestParse_Incomplete_IsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"",
		"# a\npromise 1\nedit f\n-x\nsays y", // nobody notices
		"# a\npromise 1\nedit f\n-x\nsays y\ntest p T\naudit a-svc", // two notice
		"# a\npromise 1\nedit f\n+x\nsays y\ntest p T",              // replaces nothing
		"# a\npromise 1\nedit f\n-x\ntest p T",                      // any failure would do
		"# a\npromise 1\nedit f\n-x\nsays y\ntest p T\nwhat",
	} {
		if _, err := parse("x", text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestBroken_TextIsNotThereOnce_DoesNotFitAnyMore(t *testing.T) {
	t.Parallel()
	c := example(t)
	for _, text := range []string{"", "\tsend()\n", "\tsend()\n\tmark()\n\tsend()\n\tmark()\n"} {
		if _, err := c.broken(fstest.MapFS{"a.go": {Data: []byte(text)}}); err == nil || !strings.Contains(err.Error(), "does not fit a.go any more") {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// Only the right failure counts.
func TestJudge_AnythingButTheRightFailure_IsNotCaught(t *testing.T) {
	t.Parallel()
	c := example(t)
	audited := control{audited: []string{"a-svc"}, says: []string{"is lost"}}
	for name, run := range map[string]struct {
		control
		code   int
		output string
		caught bool
	}{
		"caught":              {c, 1, "x_test.go:1: got 0\n--- FAIL: TestX_Y (0.1s)", true},
		"passed":              {c, 0, "got 0\n--- PASS: TestX_Y (0.1s)", false},
		"no such test":        {c, 0, "testing: warning: no tests to run\nPASS", false},
		"another assertion":   {c, 1, "x_test.go:1: got 7\n--- FAIL: TestX_Y (0.1s)", false},
		"another test":        {c, 1, "got 0\n--- FAIL: TestX_Yz (0.1s)", false},
		"no servers":          {c, 1, "pgtest: no Postgres; got 0", false},
		"timed out":           {c, 2, "panic: test timed out after 2m0s\ngot 0\n--- FAIL: TestX_Y (120s)", false},
		"audited":             {audited, 1, "outbox row 1 is lost\nsmoke: FAILED", true},
		"audit is clean":      {audited, 0, "smoke: ok", false},
		"audit says another":  {audited, 1, "outbox row 1 is doubled\nsmoke: FAILED", false},
		"stack did not start": {audited, 1, "everything is lost", false},
	} {
		if err := run.judge(run.code, run.output); (err == nil) != run.caught {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestVerdict_OneNotCaught_Fails(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	good := result{name: "a", by: "TestA"}
	if err := verdict(&out, []result{good}, time.Second); err != nil {
		t.Error(err)
	}
	err := verdict(&out, []result{good, {name: "b", err: errors.New("the run passed")}}, time.Second)
	if err == nil || !strings.Contains(out.String(), "NOT CAUGHT: the run passed") {
		t.Errorf("got %v and\n%s", err, out.String())
	}
}

// How busy the machine is must not decide, but what takes long must be seen.
func TestVerdict_CaughtLate_IsNamedAndPasses(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]string{soon: "0 of them after more", soon + time.Second: "1 of them after more"} {
		var out strings.Builder
		err := verdict(&out, []result{{name: "a", by: "TestA", took: took}}, time.Second)
		if err != nil || !strings.Contains(out.String(), want) || strings.Contains(out.String(), "LATE") != (took > soon) {
			t.Errorf("%s: got %v and\n%s", took, err, out.String())
		}
	}
}
