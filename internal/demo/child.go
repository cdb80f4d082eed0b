package demo

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Child is a process that a test has started. Its Wait may be called often.
type Child struct {
	*exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // with what
}

// StartChild starts a process that the kernel sends a signal when the tests are
// killed. A thread of its own waits for it: the death signal of a child belongs to
// the thread that forked it.
func StartChild(cmd *exec.Cmd, onDeath syscall.Signal) (*Child, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	dieWithUs(cmd.SysProcAttr, onDeath)
	c, started := &Child{Cmd: cmd, done: make(chan struct{})}, make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
		}
	}()
	return c, <-started
}

// Wait waits for the end.
func (c *Child) Wait() error {
	<-c.done
	return c.err
}

// Stop asks the process to end, and kills it when it has not within StopLimit.
func (c *Child) Stop() error {
	c.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended by itself
	if c.endsWithin(StopLimit) {
		return c.err
	}
	err := fmt.Errorf("%s did not end within %s", c.Path, StopLimit)
	return errors.Join(err, c.Process.Kill(), c.Wait())
}

func (c *Child) endsWithin(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.done:
		return true
	case <-timer.C:
		return false
	}
}
