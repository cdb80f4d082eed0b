package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockPoll is the pause between two tries for a file lock that somebody else holds.
const lockPoll = 50 * time.Millisecond

// ErrLocked says that another live process holds the lock.
var ErrLocked = errors.New("in use by another process")

// Lock is an advisory lock on a file. The kernel drops it when the holder dies, however it dies, and
// children do not inherit it; so a server found running in a directory whose lock is free is an orphan.
type Lock struct{ f *os.File }

// tryLock takes the lock of dir, which must exist, or returns ErrLocked.
func tryLock(dir string) (*Lock, error) { return TryLock(filepath.Join(dir, "lock")) }

// TryLock takes the lock at path, in a directory that must exist, or returns ErrLocked.
func TryLock(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", filepath.Dir(path), ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{f: f}, nil
}

// waitLock takes the lock of dir, waiting for its holder until ctx ends.
func waitLock(ctx context.Context, dir string) (*Lock, error) {
	for {
		l, err := tryLock(dir)
		if !errors.Is(err, ErrLocked) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(lockPoll):
		}
	}
}

// Unlock gives the lock up. The file stays: removing it would let two holders lock two different files.
// A child that was forked and has not begun its program yet has the file open, too, so that to close it is not
// enough.
func (l *Lock) Unlock() {
	if l != nil {
		_ = syscall.Flock(int(l.f.Fd()), syscall.LOCK_UN)
		_ = l.f.Close()
	}
}
