package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// smoke runs `pavane up --smoke` of these binaries to its end.
func smoke(t testing.TB, bin string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "pavane"), append([]string{"up", "--smoke"}, existing(t)...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+freshDir(t)) // a failure leaves its logs
	b, err := cmd.CombinedOutput()
	if _, ended := err.(*exec.ExitError); err != nil && !ended { //nolint:errorlint // Wait hands it out as it is
		t.Fatal(err)
	}
	if err != nil {
		return string(b), err.(*exec.ExitError).ExitCode() //nolint:errorlint // as above
	}
	return string(b), 0
}

func TestSmoke_SoundBinaries_EveryPathIsAsItShouldBe(t *testing.T) {
	t.Parallel()
	out, code := smoke(t, binaries(t))
	t.Log(out)
	if code != 0 || !strings.Contains(out, "smoke: ok") {
		t.Errorf("exit status %d, want 0", code)
	}
}

// A reaction is taken out of inventory-svc: nothing gives the stock of a cancelled
// order back.
func TestSmoke_ReactionTakenOut_FailsAndNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	row := regexp.MustCompile(`(?m)^\s*react\.On\[contract\.OrderCancelled\]`)
	bin := binariesWith(t, "inventory-svc", "saga.go", func(source string) string {
		return row.ReplaceAllStringFunc(source, func(s string) string { return "// " + strings.TrimSpace(s) })
	})
	out, code := smoke(t, bin)
	t.Log(out)
	if code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	for _, want := range []string{"<- WRONG", "cancelled after authorisation", "was never released", "smoke: FAILED"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output does not say %q", want)
		}
	}
}
