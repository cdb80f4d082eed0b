package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	firstPause = 50 * time.Millisecond // before a service that died is started again
	maxPause   = 5 * time.Second
	steady     = 2 * time.Second // a life of this length was a good one
	logLimit   = 10 << 20        // a log larger than this is put aside at start
)

var errNotRunning = errors.New("does not run")

// Exit tells that a service ended without being asked to, and that it runs again.
type Exit struct {
	Service string
	Pid     int    // the process that ended
	How     string // "signal: killed", "exit status 1"
	At      time.Time
	NewPid  int // the process that took its place
}

// child keeps one service running.
type child struct {
	name   string
	binary string
	args   []string
	env    []string
	log    string
	onExit func(Exit)    // after it was started again
	onPid  func(Process) // after each start

	mu       sync.Mutex
	process  *os.Process // nil: not running
	stopping bool
	held     chan struct{} // not nil: not to be started before it is closed
	first    chan error    // the outcome of the first start
	done     chan struct{} // closed when it will not be started again
}

func (c *child) start() error {
	c.first, c.done = make(chan error, 1), make(chan struct{})
	go c.supervise()
	return <-c.first
}

// supervise starts the service and starts it again until it is told to stop. It
// keeps its thread: the death signal of a child belongs to the thread that
// forked it, and Go ends threads when it likes.
func (c *child) supervise() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	var ended *Exit
	for pause := firstPause; ; {
		cmd, err := c.launch()
		if ended == nil {
			c.first <- err
		}
		if cmd == nil && (err == nil || ended == nil) {
			return // stopping, or it could not be started at all
		}
		if cmd == nil { // out of processes or files; that passes
			time.Sleep(maxPause)
			continue
		}
		if ended != nil {
			ended.NewPid = cmd.Process.Pid
			c.onExit(*ended)
		}
		begin := time.Now()
		cmd.Wait() //nolint:errcheck // ProcessState says more
		ended = &Exit{Service: c.name, Pid: cmd.Process.Pid, How: cmd.ProcessState.String(), At: time.Now()}
		if time.Since(begin) > steady {
			pause = firstPause
		}
		if c.halted() {
			return
		}
		time.Sleep(pause)
		pause = min(2*pause, maxPause)
	}
}

// launch starts the process once. Both results are nil when it should stop.
func (c *child) launch() (*exec.Cmd, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awaitRelease()
	if c.stopping {
		return nil, nil
	}
	out, err := openLog(c.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(c.binary, c.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = c.env, out, out, childAttr()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	c.process = cmd.Process
	c.onPid(Process{Pid: cmd.Process.Pid, Identity: identity(cmd.Process.Pid)})
	return cmd, nil
}

func (c *child) halted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process = nil
	return c.stopping
}

// stop asks the service to end and waits for it; when ctx ends first it kills.
func (c *child) stop(ctx context.Context) {
	if c.done == nil {
		return // never started
	}
	c.signal(syscall.SIGTERM)
	c.release()
	select {
	case <-c.done:
	case <-ctx.Done():
		c.signal(syscall.SIGKILL)
		<-c.done
	}
}

func (c *child) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	if c.process != nil {
		c.process.Signal(s)               //nolint:errcheck // it may just have ended
		c.process.Signal(syscall.SIGCONT) //nolint:errcheck // somebody may have paused it
	}
}

// hold has the service stay down when it ends, until release.
func (c *child) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = make(chan struct{})
	}
}

func (c *child) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held != nil {
		close(c.held)
		c.held = nil
	}
}

// awaitRelease gives the lock, with which it is called, up while it waits.
func (c *child) awaitRelease() {
	for c.held != nil {
		held := c.held
		c.mu.Unlock()
		<-held
		c.mu.Lock()
	}
}

// send sends a signal to the process and returns its pid. It is an error when
// the service does not run.
func (c *child) send(s syscall.Signal) (pid int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return 0, fmt.Errorf("%s %w", c.name, errNotRunning)
	}
	if err := c.process.Signal(s); err != nil {
		return 0, fmt.Errorf("send %s to %s: %w", s, c.name, err)
	}
	return c.process.Pid, nil
}

// pid is 0 while the service does not run.
func (c *child) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return 0
	}
	return c.process.Pid
}

// openLog opens a log for appending and puts one that has grown large aside.
func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > logLimit {
		os.Rename(path, path+".old") //nolint:errcheck // then it grows on
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}
