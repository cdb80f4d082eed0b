package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pavane/cmd/pavane/internal/fault"
	"pavane/internal/await"
)

// asChild makes this test binary a service that does nothing but live.
const asChild = "PAVANE_STACK_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		<-time.After(time.Minute)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const patience = 10 * time.Second

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	await.True(t, patience, what, ok)
}

func TestLock_SecondHolderIsRefusedAndToldWhoRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	held, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := (State{Pid: 4711, Gateway: "http://127.0.0.1:8080"}).write(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); err == nil || !strings.Contains(err.Error(), "process 4711 at http://127.0.0.1:8080") {
		t.Fatalf("second lock: %v", err)
	}
	held.Unlock()
	again, err := lock(dir)
	if err != nil {
		t.Fatalf("given up, and yet: %v", err)
	}
	again.Unlock()
}

func TestStart_PostgresWithoutAPassword_IsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	_, err := Start(t.Context(), Config{Dir: dir, Postgres: "postgres://postgres@127.0.0.1:1/postgres?sslmode=disable"})
	if err == nil || !strings.Contains(err.Error(), "names no password") {
		t.Errorf("err = %v, want that the URL names no password", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data directory was made: %v", err)
	}
}

func TestMigrateEnv_DatabaseIsExported_ServiceIsToldOneDatabaseOnly(t *testing.T) {
	t.Setenv("PAVANE_DATABASE", "postgres://me:mine@127.0.0.1:1/mine")
	s := &Stack{cfg: Config{Dir: t.TempDir()}}
	for _, svc := range services() {
		var told []string
		for _, v := range s.migrateEnv(svc) {
			if strings.HasPrefix(v, "PAVANE_DATABASE") {
				told = append(told, v)
			}
		}
		if len(told) != 1 || !strings.HasPrefix(told[0], "PAVANE_DATABASE_FILE=") {
			t.Errorf("%s -migrate is told %q; want the file with the owner's URL alone", svc.name, told)
		}
	}
}

func TestStart_DatabaseThatCannotBe_IsRefusedBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	for name, want := range map[string]string{"Parcels": "small letters", "a b": "small letters", "orders": "a service of the demo has it"} {
		if _, err := Start(t.Context(), Config{Dir: dir, Databases: []string{"parcels", name}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: err = %v, want that it says %q", name, err, want)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data directory was made: %v", err)
	}
}

func TestLoad_NothingRunsSaysWhatToDo(t *testing.T) {
	t.Parallel()
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "pavane up") {
		t.Fatalf("err = %v", err)
	}
}

func TestChild_KilledServiceIsStartedAgainUntilStopped(t *testing.T) {
	t.Parallel()
	exits, pids := make(chan Exit, 4), make(chan Process, 4)
	c := &child{
		name: "some-svc", binary: self(t), env: append(os.Environ(), asChild+"=1"), log: t.TempDir() + "/logs/some.log",
		onExit: func(e Exit) { exits <- e }, onPid: func(p Process) { pids <- p },
	}
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	first := <-pids
	if err := syscall.Kill(first.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := <-pids
	e := <-exits
	if e.Pid != first.Pid || e.NewPid != second.Pid || !strings.Contains(e.How, "killed") || first.Identity == second.Identity {
		t.Fatalf("told %+v; first %+v, second %+v", e, first, second)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c.stop(ctx)
	if identity(second.Pid) == second.Identity {
		t.Fatalf("process %d is still there", second.Pid)
	}
}

func TestChild_Held_StaysDownUntilReleasedAndStopEndsIt(t *testing.T) {
	t.Parallel()
	pids := make(chan Process, 4)
	c := &child{
		name: "some-svc", binary: self(t), env: append(os.Environ(), asChild+"=1"), log: t.TempDir() + "/logs/some.log",
		onExit: func(Exit) {}, onPid: func(p Process) { pids <- p },
	}
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	first := <-pids
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c.hold()
	if err := end(ctx, c, true); err != nil {
		t.Fatal(err)
	}
	if _, err := c.send(syscall.SIGSTOP); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("a signal to a service that is down: %v", err)
	}
	select {
	case p := <-pids:
		t.Errorf("started again as %d while held", p.Pid)
	case <-time.After(4 * firstPause): // a child that is not held is back by then
	}
	c.release()
	if second := <-pids; second.Pid == first.Pid {
		t.Errorf("process %d was not ended", first.Pid)
	}
	c.hold()
	if err := end(ctx, c, false); err != nil {
		t.Fatal(err)
	}
	c.stop(ctx) // returns although it is held
}

// A service that has died a moment ago is started again in a moment.
func TestTakeDown_BetweenTwoLives_StaysDownUntilReleased(t *testing.T) {
	t.Parallel()
	c := &child{
		name: "some-svc", binary: self(t), env: append(os.Environ(), asChild+"=1"), log: t.TempDir() + "/logs/some.log",
		onExit: func(Exit) {}, onPid: func(Process) {},
	}
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 2 { // the second time it does not run
		if err := takeDown(ctx, c, true); err != nil || c.pid() != 0 {
			t.Errorf("%v, process %d", err, c.pid())
		}
	}
	c.release()
	eventually(t, "it runs again", func() bool { return c.pid() != 0 })
	c.stop(ctx)
}

func TestMissing_ServerIsSomebodyElses_SaysSo(t *testing.T) {
	t.Parallel()
	s := &Stack{}
	for _, kind := range []string{"broker", "broker-kill", "postgres", "postgres-kill", "postgres-slow", fault.Clock} {
		if err := s.Missing(t.Context(), kind); err == nil || !strings.Contains(err.Error(), "not the stack's") {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for _, kind := range []string{"kill", "provider", "duplicates", "poison"} {
		if err := s.Missing(t.Context(), kind); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestChild_MissingBinaryIsAnErrorAtOnce(t *testing.T) {
	t.Parallel()
	c := &child{name: "some-svc", binary: t.TempDir() + "/none", log: t.TempDir() + "/l", onPid: func(Process) {}}
	if err := c.start(); err == nil {
		t.Fatal("started")
	}
}

// living starts a process that does nothing, and ends it with the test.
func living(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(self(t))
	cmd.Env = append(os.Environ(), asChild+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()          //nolint:errcheck // it is killed
	t.Cleanup(func() { cmd.Process.Kill(); <-ended }) //nolint:errcheck // it may have ended
	eventually(t, "program runs", func() bool { return strings.HasSuffix(identity(cmd.Process.Pid), self(t)) })
	return cmd
}

func TestLeft_NamesTheProcessesOfADemoThatIsNoMore(t *testing.T) {
	t.Parallel()
	up, service, other := living(t), living(t), living(t)
	process := func(cmd *exec.Cmd) Process { return Process{cmd.Process.Pid, identity(cmd.Process.Pid)} }
	s := State{Pid: up.Process.Pid, Identity: identity(up.Process.Pid), Services: map[string]Process{
		"order-svc":   process(service),
		"payment-svc": {Pid: other.Process.Pid, Identity: "1 /somebody/else"},
	}}
	dir := t.TempDir()
	want := func(when string, running bool, names ...string) {
		t.Helper()
		is, left, err := Left(dir)
		if err != nil || is != running || !slices.Equal(left, names) {
			t.Errorf("%s: running %t, left %q, %v; want %t and %q", when, is, left, err, running, names)
		}
	}
	want("before the first start", false)
	if err := s.write(dir); err != nil {
		t.Fatal(err)
	}
	want("while it runs", true)
	s.Identity = "1 /an/earlier/process"
	if err := s.write(dir); err != nil {
		t.Fatal(err)
	}
	want("after a kill -9", false, fmt.Sprintf("order-svc (process %d)", service.Process.Pid))
}

func TestReap_EndsOnlyWhatIsStillTheSameProcess(t *testing.T) {
	t.Parallel()
	left, other := living(t), living(t)
	n, err := reap(State{Services: map[string]Process{
		"left":  {Pid: left.Process.Pid, Identity: identity(left.Process.Pid)},
		"other": {Pid: other.Process.Pid, Identity: "1 /somebody/else"}, // the pid was given to another
	}})
	if err != nil || n != 1 {
		t.Fatalf("reaped %d: %v", n, err)
	}
	if identity(left.Process.Pid) != "" || identity(other.Process.Pid) == "" {
		t.Fatalf("left is %q, other is %q", identity(left.Process.Pid), identity(other.Process.Pid))
	}
}
