package demo

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// part makes this test's binary something else.
const part = "PAVANE_DEMO_TEST"

func TestMain(m *testing.M) {
	switch os.Getenv(part) {
	case "": // the tests
		os.Exit(m.Run())
	case "stubborn": // a demo that SIGINT does not end
		signal.Ignore(os.Interrupt)
		fmt.Println("page: here")
	case "tests": // which have a child and are killed
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), part+"=child")
		if _, err := StartChild(cmd, syscall.SIGKILL); err != nil {
			panic(err)
		}
		fmt.Println(cmd.Process.Pid)
	}
	<-time.After(time.Minute)
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// noted keeps what a test would show.
type noted struct {
	testing.TB
	failed bool
	shown  strings.Builder
}

func (n *noted) Helper()        {}
func (n *noted) Cleanup(func()) {}
func (n *noted) Failed() bool   { return n.failed }

func (n *noted) Error(args ...any) {
	n.failed = true
	fmt.Fprintln(&n.shown, args...)
}
func (n *noted) Logf(format string, args ...any) { fmt.Fprintf(&n.shown, format, args...) }

func TestCleanUp_DemoDoesNotEnd_IsKilledAndItsLogsAreShown(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	if err := os.Symlink(self(t), filepath.Join(bin, "pavane")); err != nil {
		t.Fatal(err)
	}
	n := &noted{TB: t}
	d := Start(n, Config{Bin: bin, Dir: t.TempDir(), Env: []string{part + "=stubborn"}})
	d.cleanUp(time.Millisecond)
	if shown := n.shown.String(); d.End() == nil || !strings.Contains(shown, "did not end within 1ms") || !strings.Contains(shown, "page: here") {
		t.Errorf("ended: %v; shown:\n%s", d.End(), shown)
	}
}

func TestInsist_OnlyTransientAnswers_NamesTheLastOne(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "full", http.StatusServiceUnavailable) }))
	t.Cleanup(server.Close)
	g := &Gateway{Base: server.URL, HTTP: server.Client()}
	if _, err := g.Insist(time.Millisecond, http.MethodGet, "/v1/orders", ""); err == nil || !strings.HasSuffix(err.Error(), "within 1ms: 503 full\n") {
		t.Errorf("%v", err)
	}
}
