package search_test

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestGuards_NamedInTheModel_AreInTheSQL looks up every constraint, trigger and
// statement that the model says it stands for.
func TestGuards_NamedInTheModel_AreInTheSQL(t *testing.T) {
	t.Parallel()
	root := os.DirFS("../..")
	sql := read(t, root, "migrations/inventory/*.sql") + read(t, root, "migrations/payment/*.sql") +
		read(t, root, "inventory-svc/internal/inventory/*.go") + read(t, root, "payment-svc/internal/payment/*.go")
	model := read(t, root, "proof/search/judge.go") + read(t, root, "proof/search/world.go")
	names := regexp.MustCompile(`\b(stock|transfers|accounts|balance)_[a-z_]+\b|\block\w+SQL\b`).FindAllString(model, -1)
	slices.Sort(names)
	if names = slices.Compact(names); len(names) < 12 {
		t.Errorf("the model names %d guards: %q; want 12 at least", len(names), names)
	}
	for _, name := range names {
		if !regexp.MustCompile(`\b` + name + `\b`).MatchString(sql) {
			t.Errorf("the model stands for %s, which is not there", name)
		}
	}
}

func read(t *testing.T, root fs.FS, pattern string) string {
	t.Helper()
	paths, err := fs.Glob(root, pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no file %s: %v", pattern, err)
	}
	var b strings.Builder
	for _, path := range paths {
		data, err := fs.ReadFile(root, path)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(data)
	}
	return b.String()
}
