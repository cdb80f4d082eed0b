package devstack

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pavane/internal/leaks"
)

// roleEnv makes the test binary play a starter that a test kills. Its arguments follow in roleArg.
const (
	roleEnv = "DEVSTACK_TEST_ROLE"
	roleArg = "DEVSTACK_TEST_ARG"
)

// testPatience is long: the machine may be busy with everybody else's tests.
const testPatience = 2 * time.Minute

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		play(role, os.Getenv(roleArg))
		return
	}
	os.Exit(leaks.Main(m.Run))
}

// play runs one role: it prints a line when it is ready and stays until it is killed or its input ends.
func play(role, arg string) {
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	var line string
	var err error
	switch role {
	case "postgres":
		var p *Postgres
		if p, err = StartPostgres(ctx, PostgresConfig{Dir: arg, NoSync: true}); err == nil {
			defer p.Stop(ctx)
			line = fmt.Sprintf("%d %s %s", p.Pid(), p.URL("postgres"), p.Dir())
		}
	case "broker":
		var b *Broker
		if b, err = StartBroker(BrokerConfig{Dir: arg, Topics: map[string]int{"orders": 2}}); err == nil {
			defer b.Close()
			line = fmt.Sprintf("%d %s %s", os.Getpid(), b.Addr(), arg)
		}
	case "kafka":
		var k *Kafka
		if k, err = StartKafka(ctx, KafkaConfig{Dir: arg}); err == nil {
			defer k.Stop(ctx)
			line = fmt.Sprintf("%d %s %s", k.Pid(), k.Addr(), k.Dir())
		}
	case "fetch":
		cache, mirror, _ := strings.Cut(arg, " ")
		line, err = PostgresConfig{Mirror: mirror}.fetch(ctx, cache)
	}
	if err != nil {
		fmt.Println("failed:", err)
		return
	}
	fmt.Println("ready", line)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// starter is the test binary in a role.
type starter struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Scanner
}

// startRole runs the test binary in a role, as another user if as is not nil.
func startRole(t *testing.T, role, arg string, as *account) *starter {
	t.Helper()
	cmd := exec.Command(testBinary(t, as))
	cmd.Env = append(os.Environ(), roleEnv+"="+role, roleArg+"="+arg)
	cmd.Dir, cmd.Stderr = "/", os.Stderr
	if as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: as.uid, Gid: as.gid}}
		cmd.Env = append(cmd.Env, "HOME=/nonexistent")
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &starter{cmd: cmd, stdin: stdin, out: bufio.NewScanner(stdout)}
	t.Cleanup(func() { s.end() })
	return s
}

// testBinary returns this program's path, or that of a copy which another user may run: go test builds into a closed
// directory.
func testBinary(t *testing.T, as *account) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if as.reaches(filepath.Dir(self)) {
		return self
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "devstack-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "starter")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// ready waits for the role's line and returns its words after "ready".
func (s *starter) ready(t *testing.T) []string {
	t.Helper()
	for s.out.Scan() {
		if words := strings.Fields(s.out.Text()); len(words) > 0 && words[0] == "ready" {
			return words[1:]
		}
		t.Fatalf("starter said %q", s.out.Text())
	}
	t.Fatalf("starter ended without a word (%v)", s.out.Err())
	return nil
}

// end lets the role end by itself.
func (s *starter) end() {
	_ = s.stdin.Close()
	_ = s.cmd.Wait()
}

// kill9 ends the role as a crash does.
func (s *starter) kill9() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	t.Cleanup(cancel)
	return ctx
}

// number reads a process id.
func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFreePort_WantedPortIsTaken_StepsOverIt(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	port, err := FreePort(taken)
	if err != nil {
		t.Fatal(err)
	}
	if port == taken {
		t.Errorf("got the taken port %d", port)
	}
}

func TestLock_HolderDies_IsFree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startRole(t, "broker", dir, nil)
	s.ready(t)
	if _, err := tryLock(dir); err == nil {
		t.Fatal("got a lock that another process holds")
	}
	s.kill9()
	l, err := tryLock(dir)
	if err != nil {
		t.Fatalf("lock of a dead holder: %v", err)
	}
	l.Unlock()
}

// Between fork and exec a child of this process has all its files.
func TestLock_GivenUpWhileAForkedChildHasTheFile_IsFree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := tryLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	child, err := syscall.Dup(int(l.f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(child) //nolint:errcheck // only a copy
	l.Unlock()
	if l, err = tryLock(dir); err != nil {
		t.Fatalf("a lock that was given up: %v", err)
	}
	l.Unlock()
}

func TestSweep_DirectoryInUse_IsLeftAsItIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	lock, err := tryLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	sweep(testContext(t), nil, dir)
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o711 {
		t.Errorf("mode is %o; another user's server can no longer walk through", mode)
	}
}

func TestFreePort_AnyPort_NobodyElseGetsItAfterwards(t *testing.T) {
	t.Parallel()
	port, err := FreePort(0)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" && reserve(port) {
		t.Errorf("port %d was given out twice", port)
	}
	if again, err := FreePort(port); again != port || err != nil {
		t.Errorf("its owner asks for %d and gets %d (%v)", port, again, err)
	}
}
