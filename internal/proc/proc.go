// Package proc owns what the benchmarks read of /proc: the CPU time and memory
// of processes, and what the whole machine did meanwhile. Where there is no
// /proc everything is zero.
package proc

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// hertz is the unit of the times in /proc: USER_HZ, 100 on every Linux.
const hertz = 100

// Stat is a line of /proc/PID/stat (proc_pid_stat(5)).
type Stat struct {
	PID, Parent int
	Name        string
	CPU         time.Duration // its own
	Gone        time.Duration // of its children that have ended and were waited for
	Private     int64         // bytes of resident memory that it shares with nobody
}

// All returns the processes of the machine.
func All() []Stat {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []Stat
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if st, ok := Of(pid); ok {
			all = append(all, st)
		}
	}
	return all
}

// Of returns one process; false when it is not there.
func Of(pid int) (Stat, bool) {
	return read(filepath.Join("/proc", strconv.Itoa(pid)))
}

// Threads returns the threads of a process, each with the time of its own. The
// kernel keeps 15 bytes of a name.
func Threads(pid int) []Stat {
	dirs, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*")) // the pattern is right
	var all []Stat
	for _, dir := range dirs {
		if st, ok := read(dir); ok {
			all = append(all, st)
		}
	}
	return all
}

func read(dir string) (Stat, bool) {
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Stat{}, false
	}
	// The name in parentheses may hold anything; what follows it is fixed.
	from, to := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if from < 0 || to < from {
		return Stat{}, false
	}
	fields := strings.Fields(string(b[to+1:])) // from field 3 on
	if len(fields) < 22 {
		return Stat{}, false
	}
	number := func(field int) int64 {
		n, _ := strconv.ParseInt(fields[field-3], 10, 64)
		return n
	}
	pid, _ := strconv.Atoi(filepath.Base(dir))
	return Stat{
		PID: pid, Parent: int(number(4)), Name: string(b[from+1 : to]),
		CPU: ticks(number(14) + number(15)), Gone: ticks(number(16) + number(17)),
		Private: private(dir),
	}, true
}

func ticks(n int64) time.Duration { return time.Duration(n) * time.Second / hertz }

// private is the memory of a process without what it shares with others
// (statm: resident minus shared), in bytes.
func private(dir string) int64 {
	b, err := os.ReadFile(filepath.Join(dir, "statm"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 3 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	shared, _ := strconv.ParseInt(fields[2], 10, 64)
	return (pages - shared) * int64(os.Getpagesize())
}

// Memory returns the resident memory of a process and its peak so far, in bytes;
// pages of files, such as its program, count.
func Memory(pid int) (resident, peak int64) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		kilobytes, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			resident = kilobytes << 10
		case "VmHWM":
			peak = kilobytes << 10
		}
	}
	return resident, peak
}

// Machine is the time of all cores since the machine came up.
type Machine struct {
	Total  time.Duration // busy or not
	Idle   time.Duration // with nothing to do, or waiting for the disk
	Stolen time.Duration // given by the host to others while we had something to do
}

// Now reads the first line of /proc/stat.
func Now() Machine {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Machine{}
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var m Machine
	for i, f := range strings.Fields(line) {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil || i > 8 { // guest time is counted in user time already
			continue
		}
		d := ticks(n)
		m.Total += d
		switch i {
		case 4, 5:
			m.Idle += d
		case 8:
			m.Stolen += d
		}
	}
	return m
}

// Sub returns what happened since before.
func (m Machine) Sub(before Machine) Machine {
	return Machine{Total: m.Total - before.Total, Idle: m.Idle - before.Idle, Stolen: m.Stolen - before.Stolen}
}

// Load is the load average over the last minute.
func Load() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	f, _ := strconv.ParseFloat(first, 64)
	return f
}
