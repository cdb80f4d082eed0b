// Package bench owns the measuring of a running stack: it places orders at a
// constant rate through the gateway, as a customer's program would, and tells
// how long they took, what that cost and where the time went.
package bench

import (
	"context"
	"fmt"
	"time"

	"pavane/cmd/pavane/internal/stack"
	"pavane/internal/proc"
)

// Config says what to measure. All fields are required unless a word on zero
// says otherwise.
type Config struct {
	Rate   float64       // orders per second, begun on a constant schedule
	WarmUp time.Duration // load at the same rate before anything counts; 0: none
	For    time.Duration // of what counts
	Sample int           // orders whose way is looked at hop by hop; 0: none

	// Extra are processes beside the services and Postgres whose CPU time is
	// told, by name: a broker of our own.
	Extra map[string]int

	Progress func(format string, args ...any)
}

// tick is the time between two lines of progress.
const tick = 4 * time.Second

// Report is what a run came to. Durations are milliseconds.
type Report struct {
	Rate    float64        `json:"rate"`    // orders per second asked for
	Seconds float64        `json:"seconds"` // of load that counts
	Orders  int            `json:"orders"`  // that were due in that time
	Errors  int            `json:"errors"`
	First   string         `json:"first_error,omitempty"`
	Outcome map[string]int `json:"outcome"` // orders by how they ended: "confirmed", "cancelled: …", "placed"
	// Latency is from the moment an order was due to the answer that it is
	// confirmed. A late start of the request counts, too.
	Latency Spread `json:"latency_ms"`
	// Late is how long after it was due a request was begun: the part of the
	// latency that the load's own process is to blame for.
	Late  Spread  `json:"late_ms"`
	Hops  []Hop   `json:"hops,omitempty"`
	CPU   []Usage `json:"cpu,omitempty"`
	Cores int     `json:"cores"`
	Load  float64 `json:"load_average"` // of the machine over a minute, at the end
	Busy  float64 `json:"machine_busy"` // share of all cores that was busy, 0 to 1, everybody's work
}

// Run measures a stack that is ready.
func Run(ctx context.Context, s stack.State, cfg Config) (Report, error) {
	l := newLoad(s.Gateway, cfg.Rate)
	if cfg.WarmUp > 0 {
		cfg.Progress("warming up for %s at %g orders/s", cfg.WarmUp, cfg.Rate)
		if _, err := l.run(ctx, cfg.WarmUp, cfg.Progress); err != nil {
			return Report{}, err
		}
	}
	meter := newMeter(ctx, s, cfg.Extra)
	cfg.Progress("measuring for %s at %g orders/s", cfg.For, cfg.Rate)
	before := meter.read()
	begin := time.Now()
	shots, err := l.run(ctx, cfg.For, cfg.Progress)
	if err != nil {
		return Report{}, err
	}
	took := time.Since(begin)
	after := meter.read()
	r := summary(shots)
	r.Rate, r.Seconds = cfg.Rate, cfg.For.Seconds()
	r.CPU, r.Busy = usage(before, after, took, len(shots)), busy(before, after)
	r.Cores, r.Load = cores(), proc.Load()
	if cfg.Sample > 0 {
		cfg.Progress("reading the stories of %d orders", min(cfg.Sample, r.Outcome[confirmed]))
		if r.Hops, err = hops(ctx, s.Gateway, sample(shots, cfg.Sample)); err != nil {
			return r, fmt.Errorf("where the time goes: %w", err)
		}
	}
	return r, nil
}

func summary(shots []shot) Report {
	r := Report{Orders: len(shots), Outcome: map[string]int{}}
	var took, late []time.Duration
	for _, s := range shots {
		late = append(late, s.sent.Sub(s.due))
		if s.err != nil {
			if r.Errors++; r.First == "" {
				r.First = s.err.Error()
			}
			continue
		}
		r.Outcome[s.outcome]++
		if s.outcome == confirmed {
			took = append(took, s.answered.Sub(s.due))
		}
	}
	r.Latency, r.Late = spread(took), spread(late)
	return r
}

// sample takes n confirmed orders, evenly spread over the run.
func sample(shots []shot, n int) []shot {
	var good []shot
	for _, s := range shots {
		if s.err == nil && s.outcome == confirmed {
			good = append(good, s)
		}
	}
	if len(good) <= n {
		return good
	}
	picked := make([]shot, n)
	for i := range picked {
		picked[i] = good[i*len(good)/n]
	}
	return picked
}
