package bench

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"pavane/cmd/pavane/internal/stack"
	"pavane/shared/postgres"
)

// Usage is the CPU time of one process, with that of its children.
type Usage struct {
	Process string  `json:"process"`
	Percent float64 `json:"percent"`      // of one core, over the time measured
	PerUnit float64 `json:"per_order_ms"` // CPU time for each order
	RSS     float64 `json:"resident_mib"` // at the end; of Postgres without what its processes share
}

// tool names the process this runs in.
const tool = "pavane (load, mail sink, embedded broker)"

// hertz is the unit of the times in /proc: USER_HZ, 100 on every Linux.
const hertz = 100

// meter reads the CPU time of the processes of a stack. Where there is no
// /proc it reads nothing.
type meter struct {
	names []string
	pids  map[string]int
}

// reading is what a meter says at one moment.
type reading struct {
	names []string
	cpu   map[string]time.Duration
	rss   map[string]int64 // bytes
	total time.Duration    // of all cores, busy or not
	idle  time.Duration
}

func newMeter(ctx context.Context, s stack.State, extra map[string]int) *meter {
	m := &meter{pids: map[string]int{}}
	add := func(name string, pid int) {
		m.names, m.pids[name] = append(m.names, name), pid
	}
	for name, p := range s.Services {
		add(name, p.Pid)
	}
	slices.Sort(m.names)
	if pid := postmaster(ctx, s.Postgres); pid > 0 {
		add("postgres", pid)
	}
	for name, pid := range extra {
		add(name, pid)
	}
	add(tool, os.Getpid())
	return m
}

// postmaster finds the main process of a Postgres on this machine: the parent
// of the one that serves us. 0: it runs elsewhere.
func postmaster(ctx context.Context, url string) int {
	db, err := postgres.Open(postgres.Config{URL: url, MaxConns: 1, Name: "pavane-bench"})
	if err != nil {
		return 0
	}
	defer db.Close() //nolint:errcheck // it was only read
	var pid int
	if err := db.SQL().QueryRowContext(ctx, `select pg_backend_pid()`).Scan(&pid); err != nil {
		return 0
	}
	st, ok := statOf(pid)
	if !ok || !strings.HasPrefix(st.name, "postgres") {
		return 0
	}
	return st.parent
}

func (m *meter) read() reading {
	r := reading{names: m.names, cpu: map[string]time.Duration{}, rss: map[string]int64{}}
	all := allStats()
	for name, pid := range m.pids {
		for _, st := range all {
			own := st.pid == pid
			if !own && (st.parent != pid || pid == os.Getpid()) {
				continue // this process's children are listed by themselves
			}
			r.cpu[name] += st.cpu
			if own && pid != os.Getpid() {
				r.cpu[name] += st.gone
			}
			r.rss[name] += st.rss
		}
	}
	r.total, r.idle = machine()
	return r
}

// usage compares two readings.
func usage(before, after reading, took time.Duration, orders int) []Usage {
	var all []Usage
	for _, name := range after.names {
		spent := after.cpu[name] - before.cpu[name]
		all = append(all, Usage{
			Process: name, Percent: round1(100 * spent.Seconds() / took.Seconds()),
			PerUnit: ms(spent / time.Duration(max(orders, 1))), RSS: round1(float64(after.rss[name]) / (1 << 20)),
		})
	}
	return all
}

func busy(before, after reading) float64 {
	total := after.total - before.total
	if total <= 0 {
		return 0
	}
	return round1(1000*(1-float64(after.idle-before.idle)/float64(total))) / 1000
}

func round1(f float64) float64 { return math.Round(f*10) / 10 }

// stat is a line of /proc/PID/stat (proc_pid_stat(5)).
type stat struct {
	pid, parent int
	name        string
	cpu         time.Duration // its own
	gone        time.Duration // of its children that have ended
	rss         int64         // bytes that it shares with nobody
}

func allStats() []stat {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []stat
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if st, ok := statOf(pid); ok {
			all = append(all, st)
		}
	}
	return all
}

func statOf(pid int) (stat, bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return stat{}, false
	}
	// The name in parentheses may hold anything; what follows it is fixed.
	from, to := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if from < 0 || to < from {
		return stat{}, false
	}
	fields := strings.Fields(string(b[to+1:])) // from field 3 on
	if len(fields) < 22 {
		return stat{}, false
	}
	number := func(field int) int64 {
		n, _ := strconv.ParseInt(fields[field-3], 10, 64)
		return n
	}
	ticks := func(n int64) time.Duration { return time.Duration(n) * time.Second / hertz }
	st := stat{
		pid: pid, parent: int(number(4)), name: string(b[from+1 : to]),
		cpu: ticks(number(14) + number(15)), gone: ticks(number(16) + number(17)),
	}
	st.rss = resident(dir)
	return st, true
}

// resident is the memory of a process without what it shares with others
// (statm: resident minus shared), in bytes.
func resident(dir string) int64 {
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

// machine is the first line of /proc/stat: the time of all cores, and how much
// of it they had nothing to do.
func machine() (total, idle time.Duration) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line) {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil || i > 8 { // guest time is counted in user time already
			continue
		}
		d := time.Duration(n) * time.Second / hertz
		total += d
		if i == 4 || i == 5 { // idle, and waiting for the disk
			idle += d
		}
	}
	return total, idle
}

func loadAverage() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	f, _ := strconv.ParseFloat(first, 64)
	return f
}

func cores() int { return runtime.NumCPU() }
