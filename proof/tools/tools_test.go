// Package tools_test owns the proof that the tools which look for faults here
// find them: each is given one. Their targets in the Makefile run them.
package tools_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// gate skips a test whose target is not the one that runs.
func gate(t *testing.T, target string) {
	t.Helper()
	if os.Getenv("PAVANE_TOOLS") != target {
		t.Skip("make " + target + " runs it")
	}
}

// root is where the repository begins.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs a program in dir and returns what it said and its exit code.
func run(t *testing.T, dir, name string, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	b, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The secret is put together here, so that nobody finds it in this file.
func TestSecrets_APlantedOneIsFound_AndStaysFoundInTheHistory(t *testing.T) {
	gate(t, "secrets")
	dir, program := t.TempDir(), os.Getenv("PAVANE_GITLEAKS")
	planted := "AKIA" + "Q4TRZ2" + "KXMWP5" + "NVBL"
	git := func(args ...string) {
		t.Helper()
		if out, code := run(t, dir, "git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.test"}, args...)...); code != 0 {
			t.Fatalf("git %v: %s", args, out)
		}
	}
	config := filepath.Join(root(t), ".gitleaks.toml")
	look := func(way string) (string, int) {
		return run(t, dir, program, way, "--no-banner", "--no-color", "--redact", "--verbose", "--config", config, ".")
	}
	write(t, filepath.Join(dir, "deploy.sh"), "export AWS_KEY="+planted+"\n")
	git("init", "--quiet")
	git("add", ".")
	git("commit", "--quiet", "-m", "plant")
	for _, way := range []string{"dir", "git"} {
		if out, code := look(way); code != 1 || !strings.Contains(out, "deploy.sh") || strings.Contains(out, planted) {
			t.Errorf("%s: exit code %d, want 1, the file named and the secret not shown:\n%s", way, code, out)
		}
	}
	write(t, filepath.Join(dir, "deploy.sh"), "export AWS_KEY=\n")
	git("commit", "--quiet", "-a", "-m", "take it out")
	if out, code := look("dir"); code != 0 {
		t.Errorf("dir, taken out: exit code %d: %s", code, out)
	}
	if out, code := look("git"); code != 1 {
		t.Errorf("git, taken out later: exit code %d, want 1: %s", code, out)
	}
}

// Two good files, each with one fault, and each fault is one tool's to find.
func TestIaC_PlantedFaultsAreFound(t *testing.T) {
	gate(t, "iac-lint")
	bin, dir := os.Getenv("PAVANE_IAC"), t.TempDir()
	const good = "FROM scratch\nCOPY app /app\nUSER 65532:65532\nHEALTHCHECK CMD [\"/app\", \"-healthcheck\"]\nENTRYPOINT [\"/app\"]\n"
	check := func(text string) (hadolint, checkov int, out string) {
		write(t, filepath.Join(dir, "Dockerfile"), text)
		one, hadolint := run(t, dir, filepath.Join(bin, "hadolint"), "--config", filepath.Join(root(t), "tools/hadolint.yaml"), "Dockerfile")
		two, checkov := run(t, dir, filepath.Join(bin, "checkov"), "--config-file", filepath.Join(root(t), "tools/checkov.yaml"), "--directory", ".")
		return hadolint, checkov, one + two
	}
	if hadolint, checkov, out := check(good); hadolint != 0 || checkov != 0 {
		t.Fatalf("a good file: exit codes %d and %d:\n%s", hadolint, checkov, out)
	}
	if hadolint, checkov, out := check(strings.Replace(good, "USER 65532:65532", "USER root", 1)); hadolint == 0 || checkov == 0 {
		t.Errorf("USER root: exit codes %d and %d:\n%s", hadolint, checkov, out)
	}
}

// bom is what is read of a CycloneDX document.
type bom struct {
	Format     string `json:"bomFormat"`
	Version    string `json:"specVersion"`
	Metadata   struct{ Component component }
	Components []component
}

type component struct {
	Name, Version, Purl string
	Evidence            struct{ Licenses []any }
}

// known tells whether the component is there with a version, an address and a licence.
func (b bom) known(name string) error {
	for _, c := range b.Components {
		if c.Name != name {
			continue
		}
		if c.Version == "" || !strings.HasPrefix(c.Purl, "pkg:golang/"+name+"@") || len(c.Evidence.Licenses) == 0 {
			return fmt.Errorf("of %s only this is known: %+v", name, c)
		}
		return nil
	}
	return fmt.Errorf("%s is not among the %d components", name, len(b.Components))
}

func TestSBOM_NamesWhatEachBinaryIsMadeOf(t *testing.T) {
	gate(t, "sbom")
	for binary, modules := range map[string][]string{
		"pavane":           {"github.com/segmentio/kafka-go", "github.com/lib/pq", "github.com/spf13/cobra"},
		"order-svc":        {"github.com/segmentio/kafka-go", "github.com/lib/pq"},
		"payment-svc":      {"github.com/segmentio/kafka-go", "github.com/lib/pq"},
		"inventory-svc":    {"github.com/segmentio/kafka-go", "github.com/lib/pq"},
		"notification-svc": {"github.com/segmentio/kafka-go", "github.com/lib/pq", "github.com/wneessen/go-mail"},
		"gateway-svc":      {"github.com/segmentio/kafka-go", "github.com/danielgtaylor/huma/v2"},
	} {
		text, err := os.ReadFile(filepath.Join(root(t), "sbom", binary+".cdx.json"))
		if err != nil {
			t.Error(err)
			continue
		}
		var b bom
		if err := json.Unmarshal(text, &b); err != nil {
			t.Errorf("%s: %v", binary, err)
			continue
		}
		if b.Format != "CycloneDX" || b.Version == "" || b.Metadata.Component.Name != "pavane" {
			t.Errorf("%s: %s %s of %q", binary, b.Format, b.Version, b.Metadata.Component.Name)
		}
		for _, module := range modules {
			if err := b.known(module); err != nil {
				t.Errorf("%s: %v", binary, err)
			}
		}
	}
}
