package main

import (
	"bufio"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// selfEnv makes this test binary be teststack.
const selfEnv = "TESTSTACK_TEST_SELF"

func TestMain(m *testing.M) {
	if os.Getenv(selfEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// teststack is the command with arguments and with additions to an environment that names no servers.
func teststack(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PAVANE_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, selfEnv+"=1"), env...)
	cmd.Stderr = os.Stderr
	return cmd
}

// listening says whether somebody listens where a postgres:// URL points.
func listening(t *testing.T, raw string) bool {
	t.Helper()
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", u.Host, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

func TestTeststack_Command_HasAServerWhileItRunsAndItsExitCodeIsPassedOn(t *testing.T) {
	t.Parallel()
	out, err := teststack(t, nil, "--", "sh", "-c", `echo "$PAVANE_POSTGRES"; exit 7`).Output()
	if code, _ := exitCode(err); code != 7 {
		t.Errorf("exit code %d, want 7 (%v)", code, err)
	}
	if !strings.HasPrefix(string(out), "postgres://") {
		t.Fatalf("PAVANE_POSTGRES was %q", out)
	}
	if listening(t, string(out)) {
		t.Error("the server outlives the command")
	}
}

func TestTeststack_ServerGiven_UsesIt(t *testing.T) {
	t.Parallel()
	out, err := teststack(t, []string{"PAVANE_POSTGRES=postgres://elsewhere"}, "--", "sh", "-c", `echo "$PAVANE_POSTGRES"`).Output()
	if err != nil || strings.TrimSpace(string(out)) != "postgres://elsewhere" {
		t.Errorf("PAVANE_POSTGRES was %q (%v)", out, err)
	}
}

func TestTeststack_Signalled_PassesItOnAndStopsTheServer(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			cmd := teststack(t, nil, "--", "sh", "-c", `trap 'exit 9' INT TERM; echo "$PAVANE_POSTGRES"; while :; do read line || exit 8; done`)
			stdin, err := cmd.StdinPipe() // a shell waits for it, and ends with it when we die
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(stdout).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if !listening(t, line) {
				t.Fatal("no server while the command runs")
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if sig == syscall.SIGKILL { // nothing is left to end the command but its input
				_ = stdin.Close()
			}
			code, _ := exitCode(cmd.Wait())
			if want := map[syscall.Signal]int{syscall.SIGINT: 9, syscall.SIGTERM: 9, syscall.SIGKILL: 137}[sig]; code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
			waitSilent(t, line)
		})
	}
}

// waitSilent waits until nobody listens any more. After a kill -9 the kernel ends the server, in a moment.
func waitSilent(t *testing.T, raw string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for listening(t, raw) {
		select {
		case <-deadline:
			t.Fatal("the server outlives the command")
		case <-tick.C:
		}
	}
}

func TestTeststack_NothingToRun_SaysHow(t *testing.T) {
	t.Parallel()
	cmd := teststack(t, nil)
	cmd.Stderr = nil
	out, err := cmd.CombinedOutput()
	if code, _ := exitCode(err); code != failed || !strings.Contains(string(out), "go test ./...") {
		t.Errorf("exit code %d, said %q", code, string(out))
	}
}
