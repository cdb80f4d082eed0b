package e2e_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
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

// fresh runs a command that brings its own data, and returns what it said and left
// behind when it has ended. Each line that it says is given to heard.
func fresh(t *testing.T, env []string, heard func(line string, process *os.Process), args ...string) (out string, code int, left []string) {
	t.Helper()
	tmp := freshDir(t)
	cmd := exec.Command(filepath.Join(binaries(t), "pavane"), args...)
	cmd.Env = append(append(os.Environ(), "TMPDIR="+tmp), env...)
	said, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = cmd.Stdout
	must(t, cmd.Start())
	for lines := bufio.NewScanner(said); lines.Scan(); {
		out += lines.Text() + "\n"
		heard(lines.Text(), cmd.Process)
	}
	cmd.Wait()                                                     //nolint:errcheck // ProcessState says more
	left, err = filepath.Glob(filepath.Join(tmp, "pavane-[a-z]*")) // what all runs share begins with the user's number
	must(t, err)
	return out, cmd.ProcessState.ExitCode(), left
}

func TestFresh_StoppedWhileItStarts_IsNoSuccessAndLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"up", "--smoke"}, {"bench", "saga"}, {"chaos", "--rounds", "2"}} {
		out, code, left := fresh(t, nil, func(line string, process *os.Process) {
			if strings.Contains(line, "broker (embedded") {
				must(t, process.Signal(syscall.SIGTERM))
			}
		}, args...)
		if code != 1 || !strings.Contains(out, "signal terminated") || len(left) > 0 {
			t.Errorf("pavane %v: exit status %d, want 1; left behind: %v, want nothing; it said\n%s", args, code, left, out)
		}
	}
}

func TestSmoke_RealKafkaWithoutJava_IsNotRunOnAnotherBroker(t *testing.T) {
	t.Parallel()
	out, code, left := fresh(t, []string{"PATH=" + freshDir(t)}, func(string, *os.Process) {}, "up", "--smoke", "--real-kafka")
	if code != 1 || strings.Contains(out, "embedded") || len(left) > 0 {
		t.Errorf("exit status %d, want 1; left behind: %v, want nothing; it said\n%s", code, left, out)
	}
}
