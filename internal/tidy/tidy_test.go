package tidy_test

import (
	"os"
	"testing"

	"pavane/internal/catalog"
	"pavane/internal/tidy"
)

const root = "../.."

func load(t *testing.T) tidy.Tree {
	t.Helper()
	tree, err := tidy.Load(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestTree_KeepsEveryRule(t *testing.T) {
	t.Parallel()
	tree := load(t)
	for _, rule := range tidy.Rules() {
		t.Run(rule.Name, func(t *testing.T) {
			t.Parallel()
			for _, v := range rule.Find(tree) {
				t.Error(v)
			}
		})
	}
}

func TestEvents_HaveGoldenSchemaPublisherReaderAndCompensation(t *testing.T) {
	t.Parallel()
	c, err := catalog.Read(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range load(t).Events(c) {
		t.Error(v)
	}
}

// The budget of the whole: most functions are read at a glance. With -v the
// packages are listed.
func TestFunctions_MedianAndP95_AreWithinTheBudget(t *testing.T) {
	t.Parallel()
	for _, s := range load(t).Functions() {
		t.Logf("%-40s %4d functions, median %2d lines, p95 %2d, longest %2d", s.Package, s.Functions, s.Median, s.P95, s.Longest)
		if s.Package == "all" && (s.Median > 12 || s.P95 > 45) {
			t.Errorf("all functions: median %d lines, p95 %d; want at most 12 and 45", s.Median, s.P95)
		}
	}
}
