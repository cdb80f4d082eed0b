// Package chaos_test owns the test of the scripts beside it: each does on a running
// demo what it says.
package chaos_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pavane/internal/demo"
	"pavane/internal/devstack"
)

func TestScripts_EachOnARunningDemo_AllOrdersEndAndTheAuditIsClean(t *testing.T) {
	t.Parallel()
	bin, err := demo.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := filepath.Glob("*.sh")
	if err != nil || len(scripts) < 15 {
		t.Fatalf("only the scripts %v were found (%v)", scripts, err)
	}
	dir := t.TempDir()
	for d := dir; d != filepath.Dir(d) && d != os.TempDir(); d = filepath.Dir(d) { // as root, Postgres runs as somebody else
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	demo.Start(t, demo.Config{Bin: bin, Dir: dir})
	for _, script := range scripts {
		if script == "lib.sh" {
			continue
		}
		text, err := os.ReadFile(script)
		if err != nil || !strings.Contains(string(text), "\n# See: ") || !strings.Contains(string(text), "\n# Undo: ") {
			t.Errorf("%s does not say what one should see and how it is undone (%v)", script, err)
		}
		t.Run(strings.TrimSuffix(script, ".sh"), func(t *testing.T) {
			if _, err := devstack.Faketime(); script == "clock.sh" && err != nil && os.Getenv("CI") == "" {
				t.Skip(err)
			}
			cmd := exec.Command("./" + script)
			cmd.Env = append(os.Environ(), "PAVANE="+filepath.Join(bin, "pavane"), "PAVANE_DIR="+dir, "FOR=1s", "ORDERS=5")
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "audit: clean") {
				t.Errorf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
	t.Run("a schedule", func(t *testing.T) { runSchedule(t, filepath.Join(bin, "pavane"), dir) })
}

// runSchedule has the demo that runs deal out faults itself, and looks at the report.
// Its orders are too few for the cards that wait for a deadline.
func runSchedule(t *testing.T, pavane, dir string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	out, err := exec.Command(pavane, "chaos", "--running", "--dir", dir, "--seed", "3", "--for", "12s", "--every", "2s", "--rate", "5",
		"--faults", "restart,duplicates,latency", "--json", file).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rep struct {
		OK     bool
		Seed   uint64
		Faults []struct{ Kind string }
		Audit  struct{ Clean bool }
	}
	if err := json.Unmarshal(text, &rep); err != nil || !rep.OK || !rep.Audit.Clean || rep.Seed != 3 || len(rep.Faults) < 2 {
		t.Errorf("%+v, %v", rep, err)
	}
}
