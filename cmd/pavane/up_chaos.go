package main

import (
	"cmp"
	"context"
	"time"

	"pavane/cmd/pavane/internal/chaos"
	"pavane/cmd/pavane/internal/control"
	"pavane/cmd/pavane/internal/fault"
	"pavane/cmd/pavane/internal/stack"
)

// What a run of chaos in a running system is unless it is said otherwise: short
// enough to be watched on the page.
const (
	demoChaosLength = time.Minute
	demoChaosEvery  = 4 * time.Second
	demoChaosRate   = 8 // orders per second
	// demoChaosEnd is longer than the deadline of the demo's orders, which some of
	// those that meet a fault wait for.
	demoChaosEnd = 90 * time.Second
)

// chaos is that of the demo. There is none where a server is somebody else's: half
// of the faults could not be caused.
func (o upOptions) chaos(s *stack.Stack, p *printer) control.Chaos {
	if o.kafka != "" || o.postgres != "" {
		return nil
	}
	return chaosIn(s, s.State(), p.say)
}

// chaosIn is chaos in a system that runs, with its own data.
func chaosIn(d fault.Driver, state stack.State, say func(format string, args ...any)) control.Chaos {
	return func(ctx context.Context, o control.ChaosOrder, healed func(error), progress func(string, ...any)) (*chaos.Report, error) {
		c := chaos.Config{
			Seed: o.Seed, For: cmp.Or(o.For, demoChaosLength), Every: cmp.Or(o.Every, demoChaosEvery), Rate: cmp.Or(o.Rate, demoChaosRate),
			End: demoChaosEnd, Kinds: fault.Kinds(), Progress: progress, Healed: healed,
		}
		if err := chaos.Check(c.For, c.Every, c.Rate); err != nil {
			return nil, err
		}
		if len(o.Kinds) > 0 {
			c.Kinds = nil
		}
		for _, name := range o.Kinds {
			k, err := fault.Find(name)
			if err == nil {
				err = d.Missing(ctx, name) // who asks for it by name wants it
			}
			if err != nil {
				return nil, err
			}
			c.Kinds = append(c.Kinds, k)
		}
		say("chaos for %s under seed %d", c.For, c.Seed)
		rep, err := chaos.Run(ctx, chaosOn(d, state, c))
		if err != nil {
			say("chaos: no verdict: %v", err)
			return nil, err
		}
		say("chaos: ok %t under seed %d", rep.OK, rep.Seed)
		return rep, nil
	}
}
