package bench

import (
	"context"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"pavane/cmd/pavane/internal/stack"
	"pavane/internal/proc"
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
const tool = "pavane (load, mail sink)"

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
	all   proc.Machine
}

func newMeter(ctx context.Context, s stack.State, extra map[string]int) *meter {
	m := &meter{pids: map[string]int{}}
	add := func(name string, pid int) {
		m.names, m.pids[name] = append(m.names, name), pid
	}
	for name, p := range s.Services {
		add(name, p.Pid)
	}
	for name, p := range s.Servers {
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
	st, ok := proc.Of(pid)
	if !ok || !strings.HasPrefix(st.Name, "postgres") {
		return 0
	}
	return st.Parent
}

func (m *meter) read() reading {
	r := reading{names: m.names, cpu: map[string]time.Duration{}, rss: map[string]int64{}}
	all := proc.All()
	for name, pid := range m.pids {
		for _, st := range all {
			own := st.PID == pid
			if !own && (st.Parent != pid || pid == os.Getpid()) {
				continue // this process's children are listed by themselves
			}
			r.cpu[name] += st.CPU
			if own && pid != os.Getpid() {
				r.cpu[name] += st.Gone
			}
			r.rss[name] += st.Private
		}
	}
	r.all = proc.Now()
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
	d := after.all.Sub(before.all)
	if d.Total <= 0 {
		return 0
	}
	return round1(1000*(1-float64(d.Idle)/float64(d.Total))) / 1000
}

func round1(f float64) float64 { return math.Round(f*10) / 10 }

func cores() int { return runtime.NumCPU() }
