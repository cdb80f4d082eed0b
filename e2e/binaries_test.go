package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"pavane/internal/demo"
)

// shared is what the tests of this process have in common.
var shared struct {
	dir      string // of the process; others may walk into it
	postgres string // of somebody else, to be used; empty: each demo brings its own
	mu       sync.Mutex
}

func services() []string { return demo.Services() }

// built builds the binaries once, or takes those of PAVANE_BIN.
var built = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(shared.dir, "bin")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	return demo.Build(dir)
})

// binaries returns the directory with pavane and the five services.
func binaries(t testing.TB) string {
	t.Helper()
	dir, err := built()
	must(t, err)
	return dir
}

// goBuild builds packages of this module; flags may stand before them.
func goBuild(output string, args ...string) error {
	cmd := exec.Command("go", append([]string{"build", "-o", output}, args...)...)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// binariesWith returns a directory of binaries of which one service is built
// from a changed source file: change gets the text of the file and returns another.
func binariesWith(t testing.TB, service, file string, change func(source string) string) string {
	t.Helper()
	original, err := filepath.Abs(filepath.Join("..", service, file))
	must(t, err)
	source, err := os.ReadFile(original)
	must(t, err)
	changed := change(string(source))
	if changed == string(source) {
		t.Fatalf("the change does not fit %s/%s any more", service, file)
	}
	work, err := os.MkdirTemp(shared.dir, "variant-")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(work, file), []byte(changed), 0o600))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{original: filepath.Join(work, file)}})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(work, "overlay.json"), overlay, 0o600))
	for _, name := range append(services(), "pavane") {
		if name != service {
			b, err := os.ReadFile(filepath.Join(binaries(t), name))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(work, name), b, 0o755))
		}
	}
	must(t, goBuild(filepath.Join(work, service), "-overlay", filepath.Join(work, "overlay.json"), "./"+service))
	return work
}
