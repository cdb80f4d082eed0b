package devstack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// workDir is the directory of one server, locked for as long as we use it.
type workDir struct {
	path      string
	temporary bool
	lock      *Lock
}

// takeWorkDir makes and locks the directory of a server that runs as the account, and ends the servers that a
// killed starter left in it: we hold the lock, so nobody needs them any more. An empty dir asks for a
// temporary one whose name begins with kind.
func takeWorkDir(ctx context.Context, as *account, dir, kind string, progress func(string)) (*workDir, error) {
	if dir == "" {
		return takeTempDir(ctx, as, os.TempDir(), kind, progress)
	}
	path, err := as.reachable(dir)
	if err != nil {
		return nil, err
	}
	w := &workDir{path: path}
	if err := w.take(ctx, as, progress); err != nil {
		return w, err
	}
	return w, w.standFor(ctx, as, dir)
}

// standsFor is the file in a stand-in that names the directory it stands for.
const standsFor = "stands-for"

// standFor notes in a stand-in whose it is, and takes away others when the directory above theirs is gone; their
// own may never have been made. Only those of the temporary directory are taken: anywhere else a directory can be
// gone because its disk is not mounted.
func (w *workDir) standFor(ctx context.Context, as *account, dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil || abs == w.path {
		return err
	}
	notes, _ := filepath.Glob(filepath.Join(filepath.Dir(w.path), "*", standsFor))
	for _, note := range notes {
		of, err := os.ReadFile(note)
		if err != nil || !strings.HasPrefix(string(of), os.TempDir()+string(filepath.Separator)) {
			continue
		}
		if _, err := os.Lstat(filepath.Dir(string(of))); os.IsNotExist(err) { // #nosec G703 -- our own note, below a directory of ours, and only looked at
			sweep(ctx, as, filepath.Dir(note))
		}
	}
	return wrap(os.WriteFile(filepath.Join(w.path, standsFor), []byte(abs), 0o600), "note whose directory it stands for")
}

// take makes the directory and locks it, before it changes anything: the directory may be another process's. It is
// closed to others, except that they may walk through (0711) when the server is another user.
func (w *workDir) take(ctx context.Context, as *account, progress func(string)) error {
	mode := os.FileMode(0o700)
	if as != nil {
		mode = 0o711
	}
	if err := os.MkdirAll(w.path, mode); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	lock, err := tryLock(w.path)
	if err != nil {
		return err
	}
	w.lock = lock
	if err := os.Chmod(w.path, mode); err != nil {
		return fmt.Errorf("set access of directory: %w", err)
	}
	if !as.reaches(w.path) {
		return fmt.Errorf("user %d, as which the server must run, cannot walk to %s; set TMPDIR to a place that it can", as.uid, w.path)
	}
	return w.reapLeftovers(ctx, progress)
}

// takeTempDir makes a temporary directory below another one and takes away those that killed starters left there. One
// process at a time does this, so that none takes away what another has made and not yet locked.
func takeTempDir(ctx context.Context, as *account, below, kind string, progress func(string)) (*workDir, error) {
	root, err := ownTempDir(below)
	if err != nil {
		return nil, err
	}
	turn, err := waitLock(ctx, root)
	if err != nil {
		return nil, fmt.Errorf("wait for another process that makes a temporary directory: %w", err)
	}
	defer turn.Unlock()
	old, _ := filepath.Glob(filepath.Join(root, "tmp-*"))
	for _, dir := range old {
		sweep(ctx, as, dir)
	}
	path, err := os.MkdirTemp(root, "tmp-"+kind+"-")
	if err != nil {
		return nil, fmt.Errorf("make temporary directory: %w", err)
	}
	w := &workDir{path: path, temporary: true}
	return w, w.take(ctx, as, progress)
}

// sweep removes a temporary directory that nobody holds, with its servers. What cannot be removed is left: it is
// in nobody's way.
func sweep(ctx context.Context, as *account, dir string) {
	w := &workDir{path: dir, temporary: true}
	if w.take(ctx, as, nil) == nil {
		_ = os.RemoveAll(dir)
	}
	w.lock.Unlock()
}

// reapLeftovers ends the servers whose pid files are in the directory.
func (w *workDir) reapLeftovers(ctx context.Context, progress func(string)) error {
	for _, file := range []string{w.pidFile(), filepath.Join(w.path, "data", "postmaster.pid")} {
		pid := readPid(file)
		if pid == 0 || !alive(pid) || !runsIn(pid, w.path) {
			continue
		}
		report(progress, "stopping a server left behind by an earlier run (pid %d)", pid)
		if err := reap(ctx, pid, syscall.SIGINT); err != nil {
			return err
		}
	}
	return nil
}

// pidFile is where we note a server that keeps no pid file itself.
func (w *workDir) pidFile() string { return filepath.Join(w.path, "pid") }

// notePid makes a server known to the next start.
func (w *workDir) notePid(pid int) error {
	return wrap(os.WriteFile(w.pidFile(), []byte(strconv.Itoa(pid)), 0o600), "note server's pid")
}

// readPid returns the number on the first line of a pid file, 0 when there is none.
func readPid(file string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(first))
	return pid
}

// release gives the directory up and removes it when it is temporary. The second call does nothing.
func (w *workDir) release() (err error) {
	if w == nil {
		return nil
	}
	if w.temporary {
		err = os.RemoveAll(w.path)
	}
	w.lock.Unlock()
	return wrap(err, "remove temporary directory")
}

// tail returns the end of what a log file gained since it was from bytes long.
func tail(path string, from int64) string {
	b, err := os.ReadFile(path)
	if err != nil || int64(len(b)) < from {
		return "no log"
	}
	b = b[from:]
	return strings.TrimSpace(string(b[max(0, len(b)-logTail):]))
}

// wrap adds what was done to err, and keeps nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
