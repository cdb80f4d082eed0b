package stack

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// identity tells a process from a later one of the same pid: by the time of its
// start and its program. Empty: there is no such process.
func identity(pid int) string {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err == nil {
		// The name in parentheses may hold anything; what follows it is fixed. The
		// start time is field 22, the state field 3 (proc_pid_stat(5)).
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 20 || fields[0] == "Z" {
			return ""
		}
		exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
		if err != nil {
			return ""
		}
		return fields[19] + " " + strings.TrimSuffix(exe, " (deleted)")
	}
	if _, err := os.Stat("/proc/self/stat"); err == nil {
		return ""
	}
	out, err := exec.Command("ps", "-ww", "-o", "lstart=,command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// lives says whether the very process is still there, and not a later one of its pid.
func (p Process) lives() bool { return p.Identity != "" && identity(p.Pid) == p.Identity }

// alive are the services and servers that are still there, by name.
func (s State) alive() map[string]Process {
	all := maps.Clone(s.Services)
	if all == nil {
		all = map[string]Process{}
	}
	maps.Copy(all, s.Servers)
	maps.DeleteFunc(all, func(_ string, p Process) bool { return !p.lives() })
	return all
}

// Left says whether a demo runs in dir, and if not, which processes of one that
// was killed are still there.
func Left(dir string) (running bool, left []string, err error) {
	s, err := readState(dir)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil, nil
	}
	if err != nil || (Process{s.Pid, s.Identity}).lives() {
		return err == nil, nil, err
	}
	for name, p := range s.alive() {
		left = append(left, fmt.Sprintf("%s (process %d)", name, p.Pid))
	}
	slices.Sort(left)
	return false, left, nil
}

// Described says whether the state file in dir was written for a stack that is not
// of processes here, such as that of compose.yaml.
func Described(dir string) bool {
	s, err := readState(dir)
	return err == nil && s.Pid == 0
}

// reap ends the processes of an earlier life that are still there, and returns
// how many there were. A pid that meanwhile belongs to somebody else is left alone.
func reap(s State) (int, error) {
	left := s.alive()
	for _, p := range left {
		syscall.Kill(p.Pid, syscall.SIGTERM) //nolint:errcheck // asked again below
	}
	found := len(left)
	for deadline := time.Now().Add(reapPatience); len(left) > 0; time.Sleep(10 * time.Millisecond) {
		for name, p := range left {
			if !p.lives() {
				delete(left, name)
				continue
			}
			if time.Now().After(deadline) {
				syscall.Kill(p.Pid, syscall.SIGKILL) //nolint:errcheck // asked again below
			}
			if time.Now().After(deadline.Add(reapPatience)) {
				return found, fmt.Errorf("%s of an earlier run (process %d) does not end: end it by hand", name, p.Pid)
			}
		}
	}
	return found, nil
}

// reapPatience is how long a leftover may take to stop before it is killed.
const reapPatience = 4 * time.Second
