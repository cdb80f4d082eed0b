package main

import (
	"math"
	"os"
	"strings"
	"time"

	"pavane/internal/proc"
)

// reading is the CPU time used so far, by part.
type reading struct {
	at                            time.Time
	relay, broker, postgres, self time.Duration
	compiler                      time.Duration // of the broker's
	machine                       proc.Machine
}

// read takes the times of the servers, of this process and, when there is one,
// of the relay's.
func (r *rig) read(c *child) reading {
	now := reading{at: time.Now(), machine: proc.Now()}
	self, _ := proc.Of(os.Getpid())
	broker, _ := proc.Of(r.kafka.Pid())
	now.self, now.broker = self.CPU, broker.CPU
	for _, thread := range proc.Threads(r.kafka.Pid()) {
		if strings.Contains(thread.Name, " CompilerThre") { // C1 and C2, cut by the kernel
			now.compiler += thread.CPU
		}
	}
	if c != nil {
		relay, _ := proc.Of(c.pid())
		now.relay = relay.CPU
	}
	postmaster := r.pg.Pid()
	for _, st := range proc.All() {
		switch postmaster {
		case st.PID:
			now.postgres += st.CPU + st.Gone
		case st.Parent:
			now.postgres += st.CPU
		}
	}
	return now
}

// usage is what was used between two readings.
type usage struct {
	Seconds  float64 `json:"seconds"`
	Relay    float64 `json:"relay_us"` // CPU time a row, microseconds
	Broker   float64 `json:"broker_us"`
	Compiler float64 `json:"compiler_us"` // of the broker's, what Java took to compile it anew
	Postgres float64 `json:"postgres_us"`
	Self     float64 `json:"bench_us"` // of this process: writers, readers, looks
	Stolen   float64 `json:"stolen"`   // share of the cores that the host gave to others
	Others   float64 `json:"others"`   // share that other programs of this machine used

	relay, postgres time.Duration
}

func (r reading) since(before reading, rows int) usage {
	took, machine := r.at.Sub(before.at), r.machine.Sub(before.machine)
	u := usage{Seconds: took.Seconds(), relay: r.relay - before.relay, postgres: r.postgres - before.postgres}
	each := func(d time.Duration) float64 {
		return math.Round(float64(d.Nanoseconds())/float64(max(rows, 1))/10) / 100
	}
	broker, self := r.broker-before.broker, r.self-before.self
	u.Relay, u.Broker, u.Postgres, u.Self = each(u.relay), each(broker), each(u.postgres), each(self)
	u.Compiler = each(r.compiler - before.compiler)
	if total := machine.Total; total > 0 {
		ours := u.relay + u.postgres + broker + self
		u.Stolen = share(machine.Stolen, total)
		u.Others = share(max(total-machine.Idle-machine.Stolen-ours, 0), total)
	}
	return u
}

// total is the CPU time a row of all parts.
func (u usage) total() float64 { return u.Relay + u.Broker + u.Postgres }

func share(part, whole time.Duration) float64 {
	return math.Round(1000*float64(part)/float64(whole)) / 1000
}

// megabytes is a size in MB with one decimal.
func megabytes(bytes int64) float64 { return math.Round(float64(bytes)/1e5) / 10 }
