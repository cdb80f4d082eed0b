package devstack

import (
	"context"
	"errors"
	"sync"
	"syscall"
)

// server is what Postgres and Kafka have in common: a directory, and a process that works in it.
type server struct {
	dir *workDir

	mu   sync.Mutex // guards proc
	proc *process
}

// Dir returns where the server's files are: the wanted directory, or the one that stands in for it.
func (s *server) Dir() string { return s.dir.path }

// Pid returns the process id of the server's main process.
func (s *server) Pid() int { return s.process().pid() }

// Ended tells whether the server's main process has ended, by itself or because somebody killed it.
func (s *server) Ended() bool {
	select {
	case <-s.process().done:
		return true
	default:
		return false
	}
}

// Kill ends the server's main process as a crash does (SIGKILL); its children follow by themselves. Restart brings it
// back through recovery. The second call does nothing.
func (s *server) Kill() { s.process().kill() }

func (s *server) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

func (s *server) runs(proc *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc = proc
}

// stop ends the server for good. What is kept needs the signal of a clean shutdown; a temporary directory is removed.
func (s *server) stop(ctx context.Context, clean, atOnce syscall.Signal) error {
	sig := clean
	if s.dir.temporary {
		sig = atOnce
	}
	return errors.Join(s.process().stop(ctx, sig), s.dir.release())
}
