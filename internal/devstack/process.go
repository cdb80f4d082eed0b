package devstack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// reapPatience is how long a leftover server may take to shut down before it is killed.
const reapPatience = 5 * time.Second

// process is a running child. done is closed when it has ended, err is then its exit error.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// startProcess starts cmd as a direct child in a process group of its own (Ctrl-C in the terminal is for us,
// we stop our servers in order) that gets onDeath when we die.
//
// The death signal belongs to the thread that forked, not to the process; Go ends threads when it likes.
// So one goroutine keeps its thread locked from the fork to the end of the child.
func startProcess(cmd *exec.Cmd, as *account, onDeath syscall.Signal) (*process, error) {
	cmd.SysProcAttr = childAttr(onDeath)
	if as != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: as.uid, Gid: as.gid}
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop sends sig and waits for the end; when ctx ends first, it kills. It returns only when the child is gone.
func (p *process) stop(ctx context.Context, sig syscall.Signal) error {
	if p.cmd.Process.Signal(sig) != nil { // ended already
		<-p.done
		return nil
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("%s (pid %d) did not stop in time and was killed: %w",
			filepath.Base(p.cmd.Path), p.pid(), context.Cause(ctx))
	}
}

// kill ends the child at once and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// runOut runs cmd as the account to its end and puts what it said into the error.
func runOut(ctx context.Context, cmd *exec.Cmd, as *account) error {
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	proc, err := startProcess(cmd, as, syscall.SIGKILL)
	if err != nil {
		return err
	}
	select {
	case <-proc.done:
	case <-ctx.Done():
		proc.kill()
		return context.Cause(ctx)
	}
	if proc.err != nil {
		return fmt.Errorf("%w: %s", proc.err, strings.TrimSpace(out.String()))
	}
	return nil
}

// reap ends the process pid, which an earlier life of ours left behind: sig first, SIGKILL after a while.
func reap(ctx context.Context, pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil {
		return nil // gone already
	}
	soft, cancel := context.WithTimeout(ctx, reapPatience)
	defer cancel()
	if waitGone(soft, pid) == nil {
		return nil
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	hard, cancel := context.WithTimeout(ctx, reapPatience)
	defer cancel()
	if err := waitGone(hard, pid); err != nil {
		return fmt.Errorf("end leftover process %d: %w", pid, err)
	}
	return nil
}

// waitGone polls until pid no longer exists; there is no way to wait for a process that is not our child.
func waitGone(ctx context.Context, pid int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for alive(pid) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// alive says whether pid exists and is more than a zombie that nobody has collected.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return !os.IsNotExist(err) || !hasProc()
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// hasProc says whether this system has a Linux-like /proc.
func hasProc() bool {
	_, err := os.Stat("/proc/self/stat")
	return err == nil
}

// runsIn says whether process pid is one that we started for dir: its command line names dir. A number in a
// leftover pid file may meanwhile belong to anybody.
func runsIn(pid int, dir string) bool {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err == nil {
		for _, arg := range strings.Split(string(line), "\x00") {
			if arg == dir || strings.HasPrefix(arg, dir+string(filepath.Separator)) {
				return true
			}
		}
		return false
	}
	out, err := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), dir)
}
