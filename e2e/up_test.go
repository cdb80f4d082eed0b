package e2e_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/shared/postgres"
)

const (
	startLimit = 90 * time.Second // two cores may be shared with other tests
	stopLimit  = 30 * time.Second
)

// how says how `pavane up` is to run. The zero value is a demo of its own.
type how struct {
	bin      string // empty: the binaries as they are
	dir      string // empty: a fresh one
	embedded bool   // also where PAVANE_POSTGRES and PAVANE_KAFKA name servers
	user     *syscall.Credential
	args     []string
	env      []string // beside what the tests have
}

// up is a running `pavane up`.
type up struct {
	t     testing.TB // the one that looks at it now
	owner testing.TB // the one that started it
	bin   string
	dir   string
	out   *output
	proc  *os.Process
	done  chan struct{} // closed when it has ended
	end   *os.ProcessState
	pools map[string]*postgres.DB // by database
}

// state is the file in which `pavane up` says what runs.
type state struct {
	Pid       int
	Gateway   string
	Postgres  string
	Kafka     []string
	Namespace string
	Services  map[string]struct{ Pid int }
}

// output collects what a process says.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// line returns the first line with the text in it.
func (o *output) line(text string) string {
	for line := range strings.Lines(o.String()) {
		if strings.Contains(line, text) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// launch starts `pavane up` and does not wait for anything.
func launch(t testing.TB, h how) *up {
	t.Helper()
	if h.bin == "" {
		h.bin = binaries(t)
	}
	if h.dir == "" {
		h.dir = freshDir(t)
	}
	args := append([]string{"up", "--no-open", "--dir", h.dir}, h.args...)
	if !slices.Contains(args, "--port") {
		args = append(args, "--port", "0")
	}
	if !h.embedded {
		args = append(args, existing(t)...)
	}
	u := &up{t: t, owner: t, bin: h.bin, dir: h.dir, out: &output{}, done: make(chan struct{}), pools: map[string]*postgres.DB{}}
	cmd := exec.Command(filepath.Join(h.bin, "pavane"), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = h.dir, u.out, u.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: h.user}
	cmd.Env = append(os.Environ(), h.env...)
	if h.user != nil {
		cmd.Env = append(cmd.Env, "HOME="+h.dir, "XDG_DATA_HOME=", "XDG_CACHE_HOME=")
	}
	dieWithUs(cmd)
	u.run(cmd)
	t.Cleanup(u.cleanUp)
	return u
}

// run starts the process and waits for its end on a thread of its own: the
// death signal of a child belongs to the thread that forked it.
func (u *up) run(cmd *exec.Cmd) {
	u.t.Helper()
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(u.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() //nolint:errcheck // ProcessState says more
			u.end = cmd.ProcessState
		}
	}()
	must(u.t, <-started)
	u.proc = cmd.Process
}

// start starts `pavane up` and returns when it has shown its first orders.
func start(t testing.TB, h how) *up {
	t.Helper()
	u := launch(t, h)
	u.await("page: ")
	return u
}

// await waits for a line and returns it.
func (u *up) await(text string) (line string) {
	u.t.Helper()
	await.True(u.t, startLimit, fmt.Sprintf("`pavane up` says %q", text), func() bool {
		if line = u.out.line(text); line != "" {
			return true
		}
		select {
		case <-u.done:
			u.t.Fatalf("`pavane up` ended: %s", u.end)
		default:
		}
		return false
	})
	return line
}

// with is the same demo in a subtest, which it outlives.
func (u *up) with(t testing.TB) *up {
	c := *u
	c.t = t
	return &c
}

// signal sends a signal and waits for the end.
func (u *up) signal(s syscall.Signal) {
	u.t.Helper()
	must(u.t, u.proc.Signal(s))
	u.wait(stopLimit)
}

func (u *up) wait(limit time.Duration) {
	u.t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-u.done:
	case <-timer.C:
		u.t.Fatalf("`pavane up` did not end within %s", limit)
	}
}

// cleanUp stops what still runs, and shows what was said when the test failed.
func (u *up) cleanUp() {
	select {
	case <-u.done:
	default:
		u.signal(syscall.SIGINT)
		if code := u.end.ExitCode(); code != 0 {
			u.t.Errorf("`pavane up` ended with %s after SIGINT", u.end)
		}
	}
	if !u.t.Failed() {
		return
	}
	u.t.Logf("pavane up:\n%s", u.out)
	for _, name := range services() {
		b, _ := os.ReadFile(filepath.Join(u.dir, "logs", name+".log"))
		u.t.Logf("%s, the end of its log:\n%s", name, b[max(0, len(b)-4000):])
	}
}

func (u *up) state() (s state) {
	u.t.Helper()
	b, err := os.ReadFile(filepath.Join(u.dir, "state.json"))
	must(u.t, err)
	must(u.t, json.Unmarshal(b, &s))
	return s
}

// kill kills a service and returns when `pavane up` runs it again.
func (u *up) kill(service string) {
	u.t.Helper()
	old := u.state().Services[service].Pid
	must(u.t, syscall.Kill(old, syscall.SIGKILL))
	await.True(u.t, stopLimit, service+" is started again", func() bool { return u.state().Services[service].Pid != old })
}

// awaitReady waits until the gateway reaches the others.
func (u *up) awaitReady() {
	u.t.Helper()
	gw := u.gateway()
	await.True(u.t, startLimit, "the gateway answers", func() bool {
		a, err := gw.do(http.MethodGet, "/v1/products", "")
		return err == nil && a.status == http.StatusOK && strings.Contains(a.body, `"missing":[]`)
	})
}

// audit runs `pavane audit`, which must find nothing.
func (u *up) audit() {
	u.t.Helper()
	out, err := exec.Command(filepath.Join(u.bin, "pavane"), "audit", "--dir", u.dir, "--settle", "5s").CombinedOutput()
	if err != nil {
		u.t.Errorf("pavane audit: %v\n%s", err, out)
		return
	}
	u.t.Logf("%s", bytes.TrimSpace(out))
}

// freshDir makes a directory that other users may walk into: as root, Postgres
// runs as somebody else.
func freshDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(shared.dir, "up-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// existing returns the flags for the servers that the environment names, with
// names in them that nobody else uses.
func existing(t testing.TB) (flags []string) {
	t.Helper()
	name := "e2e_" + strings.ToLower(rand.Text()[:12])
	if kafka := os.Getenv("PAVANE_KAFKA"); kafka != "" {
		flags = append(flags, "--kafka", kafka, "--namespace", name+".")
	}
	if shared.postgres != "" {
		flags = append(flags, "--postgres", ownSchemas(t, name))
	}
	return flags
}

// ownSchemas makes a schema of that name in each database of the demo and returns
// the URL that leads there.
func ownSchemas(t testing.TB, name string) string {
	t.Helper()
	for _, database := range []string{"orders", "payments", "inventory", "notifications"} {
		createDatabase(t, database)
		onServer(t, database, func(db *sqlx.DB) error {
			_, err := db.Exec(`create schema ` + name)
			return err
		})
		t.Cleanup(func() {
			onServer(t, database, func(db *sqlx.DB) error {
				_, err := db.Exec(`drop schema ` + name + ` cascade`)
				return err
			})
		})
	}
	u, err := url.Parse(shared.postgres)
	must(t, err)
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return u.String()
}

// createDatabase makes a database where it is missing; no two tests at once.
func createDatabase(t testing.TB, name string) {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	onServer(t, "", func(db *sqlx.DB) error {
		exists := false
		err := db.Get(&exists, `select exists (select from pg_database where datname = $1)`, name)
		if err == nil && !exists {
			_, err = db.Exec(`create database ` + name)
		}
		return err
	})
}

// onServer works on a database of the existing server; empty is the one that its
// URL names.
func onServer(t testing.TB, database string, f func(*sqlx.DB) error) {
	t.Helper()
	u, err := url.Parse(shared.postgres)
	must(t, err)
	if database != "" {
		u.Path = "/" + database
	}
	db, err := sqlx.Connect("postgres", u.String())
	must(t, err)
	must(t, errors.Join(f(db), db.Close()))
}
