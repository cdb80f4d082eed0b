package main

import (
	"context"
	"errors"
	"time"

	"pavane/internal/proc"
)

// idle is what a relay costs that has nothing to do.
type idle struct {
	Way      string  `json:"way"`
	Relay    float64 `json:"relay_percent"` // of a core
	Postgres float64 `json:"postgres_percent"`
	Memory   float64 `json:"rss_mb"`
}

func idles(ctx context.Context, r *rig) error {
	cpu, memory := map[string]float64{}, map[string]float64{}
	for _, w := range r.ways()[:r.sideWays] {
		i, err := r.idleOne(ctx, w)
		if err != nil {
			return err
		}
		r.found.add(r.section, i)
		r.say("  %s: %.2f + %.2f %% of a core, %.0f MB", w.name, i.Relay, i.Postgres, i.Memory)
		cpu[w.name], memory[w.name] = i.Relay+i.Postgres, i.Memory
	}
	r.found.figure(r.section, "% of a core, relay and Postgres", cpu)
	r.found.figure(r.section, "memory, MB", memory)
	r.found.goal(r.section, "% of a core, relay and Postgres", cpu[pavane().name], atMost(0.5))
	r.found.goal(r.section, "memory, MB", memory[pavane().name], atMost(20))
	return nil
}

// idleOne publishes some rows, waits until they are in the log and watches.
func (r *rig) idleOne(ctx context.Context, w way) (i idle, err error) {
	t, err := r.newFilled(ctx, w, 10*together)
	if err != nil {
		return i, err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	c, err := t.launch()
	if err != nil {
		return i, err
	}
	defer c.kill()
	if err := t.awaitPublished(ctx, c); err != nil {
		return i, err
	}
	if err := pause(ctx, r.settleIn); err != nil {
		return i, err
	}
	before := t.read(c)
	if err := pause(ctx, r.idleFor); err != nil {
		return i, err
	}
	used := t.read(c).since(before, 1)
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / used.Seconds }
	resident, _ := proc.Memory(c.pid())
	return idle{Way: w.name, Relay: percent(used.relay), Postgres: percent(used.postgres), Memory: megabytes(resident)}, c.gone()
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
