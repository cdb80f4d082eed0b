package tidy_test

import (
	"os"
	"slices"
	"strings"
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

func TestPlaces_NameEveryServiceAndNoOther(t *testing.T) {
	t.Parallel()
	for _, v := range load(t).Places() {
		t.Error(v)
	}
}

// A newcomer makes the folder, and the test names what is left to do.
func TestPlaces_NewService_IsMissedInEachOfThem(t *testing.T) {
	t.Parallel()
	tree := load(t)
	tree.Files = append(tree.Files, tidy.File{Path: "tea-svc/main.go"}, tidy.File{Path: "tea-svc/saga.go"})
	missed := map[string]bool{}
	for _, v := range tree.Places() {
		if !strings.Contains(v.String(), "tea") {
			t.Errorf("%s, which is not about the new service", v)
		}
		missed[v.Path] = true
	}
	for _, path := range []string{
		"Makefile", "compose.yaml", "compose.secure.yaml", "compose.chaos.yaml", "migrations/migrations.go", "migrations/tea/grants.txt",
		"deploy/kafka/acls.sh", "deploy/kafka/principals.sh", "deploy/secure.sh", "deploy/k8s/base/tea-svc/relay/kustomization.yaml",
		"deploy/k8s/overlays/settings/kustomization.yaml", "gateway-svc/internal/gateway/gateway.go", "gateway-svc/internal/gateway/parked.go",
		"cmd/pavane/internal/stack/stack.go", "internal/audit/load.go", "chaos/rolling-restart.sh",
	} {
		if !missed[path] {
			t.Errorf("%s is not missed", path)
		}
	}
}

func TestPlaces_NameTakenOutOfOne_IsNamedThere(t *testing.T) {
	t.Parallel()
	whole := load(t)
	for _, c := range []struct{ file, old, new, want string }{
		{"Makefile", "payment-svc ", "", "SERVICES lacks payment-svc; see docs/adding-a-service.md"},
		{"Makefile", "payment-svc ", "payment-svc tea-svc ", "SERVICES names tea-svc, and there is no such service"},
		{"Makefile", "SERVICES :=", "ALL :=", "no SERVICES is found any more"},
		{"compose.yaml", "  payment-svc:\n", "", "its container lacks payment-svc"},
		{"deploy/kafka/acls.sh", `grant payment-svc   "Write`, `grant order-svc   "Write`, "Write lacks payment-svc"},
		{"gateway-svc/internal/gateway/gateway.go", "{orderSvc, paymentSvc, ", "{orderSvc, ", "storytellers lacks payment-svc"},
		{"gateway-svc/internal/gateway/parked.go", `json:"service,omitempty" enum:"order-svc,payment-svc,`, `json:"service,omitempty" enum:"order-svc,`, "enum lacks payment-svc"},
		{"migrations/migrations.go", "embed kit order payment", "embed kit order", "go:embed lacks payment-svc"},
		{"docs/adding-a-service.md", "(../deploy/secure.sh)", "", "no link to deploy/secure.sh"},
	} {
		tree := whole
		tree.Files = slices.Clone(whole.Files)
		i := slices.IndexFunc(tree.Files, func(f tidy.File) bool { return f.Path == c.file })
		if i < 0 || !strings.Contains(tree.Files[i].Text, c.old) {
			t.Fatalf("%s does not hold %q", c.file, c.old)
		}
		tree.Files[i].Text = strings.Replace(tree.Files[i].Text, c.old, c.new, 1)
		found := tree.Places()
		if len(found) != 1 || found[0].Path != c.file || !strings.HasPrefix(found[0].Text, c.want) {
			t.Errorf("%s without %q: found %v, want %q", c.file, c.old, found, c.want)
		}
	}
}

func TestTracked_NoFailureOfRapid(t *testing.T) {
	t.Parallel()
	if found := tidy.Tracked([]byte("DIRC\x00x/a.go\x00\x01x/testdata/rapid/TestA/TestA-1.fail\x00\x02")); len(found) != 1 || found[0].Path != "x/testdata/rapid/TestA/TestA-1.fail" {
		t.Errorf("of an index with one failure these are found: %v", found)
	}
	index, err := os.ReadFile(root + "/.git/index")
	if err != nil {
		t.Skipf("no index of git to look at: %v", err) // an archive, or a worktree
	}
	for _, v := range tidy.Tracked(index) {
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
