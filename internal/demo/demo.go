// Package demo owns running `pavane up` in tests: it builds the binaries, starts
// the demo as a process of its own, drives it through its gateway and its state
// file, and stops it with the test.
package demo

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/internal/transcript"
)

const (
	// StartLimit is how long a demo may take to be ready. The cores may be shared
	// with other tests.
	StartLimit = 90 * time.Second
	// StopLimit is how long a demo may take to end, and a service to come back.
	StopLimit = 30 * time.Second
)

// logTail is how much of each log a failed test shows, in bytes.
const logTail = 4000

// Services are the names of the demo's services, which are those of their binaries.
func Services() []string {
	return []string{"order-svc", "payment-svc", "inventory-svc", "notification-svc", "gateway-svc"}
}

// Build returns the directory that PAVANE_BIN names; without one it builds pavane
// and the services into dir.
func Build(dir string) (string, error) {
	if given := os.Getenv("PAVANE_BIN"); given != "" {
		return filepath.Abs(given)
	}
	packages := []string{"build", "-o", dir + string(filepath.Separator), "pavane/cmd/pavane"}
	for _, name := range Services() {
		packages = append(packages, "pavane/"+name)
	}
	if out, err := exec.Command("go", packages...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
}

// Config says how `pavane up` is to run. Bin and Dir are required.
type Config struct {
	Bin  string // directory of the binaries
	Dir  string // data, logs and state
	Args []string
	Env  []string            // beside what the test has
	User *syscall.Credential // nil: the one who tests
}

// State is the file in which `pavane up` says what runs.
type State struct {
	Pid       int
	Gateway   string // http://host:port
	Postgres  string // URL of the server
	Provider  string // http://host:port of the card provider's simulator
	Kafka     []string
	Namespace string
	Services  map[string]struct{ Pid int }
}

// Demo is a running `pavane up`.
type Demo struct {
	Bin, Dir string
	Proc     *os.Process

	t     testing.TB // the one that looks at it now
	out   *output
	child *Child
}

// Start starts `pavane up` and returns when it serves and has shown its first orders.
func Start(t testing.TB, cfg Config) *Demo {
	t.Helper()
	d := Launch(t, cfg)
	d.Await("page: ")
	return d
}

// Launch starts `pavane up` and does not wait for anything. It is stopped with the
// test, which then fails unless it ended cleanly, and shows the logs of a failure.
func Launch(t testing.TB, cfg Config) *Demo {
	t.Helper()
	args := append([]string{"up", "--no-open", "--dir", cfg.Dir}, cfg.Args...)
	if !slices.Contains(args, "--port") {
		args = append(args, "--port", "0")
	}
	d := &Demo{Bin: cfg.Bin, Dir: cfg.Dir, t: t, out: &output{}}
	cmd := exec.Command(filepath.Join(cfg.Bin, "pavane"), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = cfg.Dir, d.out, d.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cfg.User}
	cmd.Env = append(os.Environ(), cfg.Env...)
	if cfg.User != nil {
		cmd.Env = append(cmd.Env, "HOME="+cfg.Dir, "XDG_DATA_HOME=", "XDG_CACHE_HOME=")
	}
	child, err := StartChild(cmd, syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	d.child, d.Proc = child, cmd.Process
	t.Cleanup(func() { d.cleanUp(StopLimit) })
	return d
}

// End is how it ended; nil: it has not.
func (d *Demo) End() *os.ProcessState {
	select {
	case <-d.child.done:
		return d.child.ProcessState
	default:
		return nil
	}
}

// With is the same demo in a subtest, which it outlives.
func (d *Demo) With(t testing.TB) *Demo {
	c := *d
	c.t = t
	return &c
}

// Await waits for a line with the text in it and returns the line.
func (d *Demo) Await(text string) (line string) {
	d.t.Helper()
	await.True(d.t, StartLimit, fmt.Sprintf("`pavane up` says %q", text), func() bool {
		if line = d.out.line(text); line != "" {
			return true
		}
		if end := d.End(); end != nil {
			d.t.Fatalf("`pavane up` ended: %s", end)
		}
		return false
	})
	return line
}

// Said returns the first line with the text in it, empty when there is none so far.
func (d *Demo) Said(text string) string { return d.out.line(text) }

// Signal sends a signal and waits for the end.
func (d *Demo) Signal(s syscall.Signal) {
	d.t.Helper()
	if err := d.signal(s, StopLimit); err != nil {
		d.t.Fatal(err)
	}
}

func (d *Demo) signal(s syscall.Signal, limit time.Duration) error {
	if err := d.Proc.Signal(s); err != nil {
		return err
	}
	if !d.child.endsWithin(limit) {
		return fmt.Errorf("`pavane up` did not end within %s", limit)
	}
	return nil
}

// cleanUp stops what still runs, and shows what was said when the test failed.
func (d *Demo) cleanUp(limit time.Duration) {
	if d.End() == nil {
		if err := d.signal(syscall.SIGINT, limit); err != nil {
			d.t.Error(err)
			syscall.Kill(-d.Proc.Pid, syscall.SIGKILL) //nolint:errcheck // its group: then it may just have ended
			d.child.Wait()                             //nolint:errcheck // as it had to
		} else if d.End().ExitCode() != 0 {
			d.t.Errorf("`pavane up` ended with %s after SIGINT", d.End())
		}
	}
	if !d.t.Failed() {
		return
	}
	d.t.Logf("pavane up:\n%s", d.out)
	for _, name := range Services() {
		b, _ := os.ReadFile(filepath.Join(d.Dir, "logs", name+".log"))
		d.t.Logf("%s, the end of its log:\n%s", name, b[max(0, len(b)-logTail):])
	}
}

// State reads the state file.
func (d *Demo) State() (s State) {
	d.t.Helper()
	b, err := os.ReadFile(filepath.Join(d.Dir, "state.json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// Kill kills a service and returns when `pavane up` runs it again.
func (d *Demo) Kill(service string) {
	d.t.Helper()
	old := d.State().Services[service].Pid
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		d.t.Fatal(err)
	}
	await.True(d.t, StopLimit, service+" is started again", func() bool { return d.State().Services[service].Pid != old })
}

// Audit runs `pavane audit`, which must find nothing. Settle is how long effects
// may be on their way; the line with the verdict is returned.
func (d *Demo) Audit(settle time.Duration) string {
	d.t.Helper()
	out, err := d.Tool("audit", "--settle", settle.String())
	if err != nil {
		d.t.Errorf("pavane audit: %v\n%s", err, out)
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, " orders, ") {
			return strings.TrimSpace(line)
		}
	}
	return out
}

// Tool runs a command of pavane on this demo and returns what it said.
func (d *Demo) Tool(args ...string) (string, error) {
	out, err := exec.Command(filepath.Join(d.Bin, "pavane"), append(args, "--dir", d.Dir)...).CombinedOutput()
	return string(out), err
}

// output collects what a process says.
type output struct{ transcript.Buffer }

// line returns the first line with the text in it.
func (o *output) line(text string) string {
	for line := range strings.Lines(o.String()) {
		if strings.Contains(line, text) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
