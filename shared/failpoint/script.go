package failpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// script is a file that says what happens in which life of a process: each line
// is a set, the first one that of the process that lives now. It is written by
// whoever drives a test, at any time. A process that is killed by its set takes
// the line out before it dies, so that the one started in its place follows the
// next line, and none when there is no other.
type script struct {
	path string
	read fs.FileInfo // of the file as it was read last; each content is a new file
}

// Open reads the set of the process named name: what [Parse] reads, or with
// "@dir" the script dir/name, which may be written, and written again, while the
// process runs; it is read when a point is passed. A death is noted as a line "point@hit pid" in dir/name.deaths.
func Open(spec, name string) (*Set, error) {
	dir, scripted := strings.CutPrefix(spec, "@")
	if !scripted {
		return Parse(spec)
	}
	s, err := Parse("")
	if err != nil {
		return nil, err
	}
	s.script = &script{path: filepath.Join(dir, name)}
	return s, nil
}

// Write puts the lines of a script in place, all at once.
func Write(path string, lives ...string) error {
	next := path + ".next"
	if err := os.WriteFile(next, []byte(strings.Join(lives, "\n")), 0o644); err != nil {
		return fmt.Errorf("failpoint script: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("failpoint script: %w", err)
	}
	return nil
}

// Deaths is the file in which the deaths of the process with this script are noted.
func Deaths(path string) string { return path + ".deaths" }

// follow takes over the script's first line when the file has changed. Hits are
// then counted anew.
func (s *Set) follow() error {
	if s.script == nil {
		return nil
	}
	info, err := os.Stat(s.script.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("failpoint script: %w", err)
	}
	if old := s.script.read; old != nil && os.SameFile(old, info) && old.ModTime().Equal(info.ModTime()) && old.Size() == info.Size() {
		return nil
	}
	text, err := os.ReadFile(s.script.path)
	if err != nil {
		return fmt.Errorf("failpoint script: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	set, err := Parse(line)
	if err != nil {
		return err
	}
	s.script.read, s.actions, s.hits = info, set.actions, set.hits
	return nil
}

// noteDeath notes where the process dies and then takes the script's first line
// out: when the line is gone, the note is there.
func (s *Set) noteDeath(point string, hit int) error {
	if s.script == nil {
		return nil
	}
	deaths, err := os.OpenFile(Deaths(s.script.path), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("failpoint script: %w", err)
	}
	_, err = fmt.Fprintf(deaths, "%s@%d %d\n", point, hit, os.Getpid())
	if err := errors.Join(err, deaths.Close()); err != nil {
		return fmt.Errorf("failpoint script: %w", err)
	}
	text, err := os.ReadFile(s.script.path)
	if err != nil {
		return fmt.Errorf("failpoint script: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), "\n")
	return Write(s.script.path, rest)
}
