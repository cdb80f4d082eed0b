package main

import (
	"context"
	"time"

	"pavane/cmd/pavane/internal/chaos"
	"pavane/cmd/pavane/internal/control"
	"pavane/cmd/pavane/internal/fault"
	"pavane/cmd/pavane/internal/stack"
)

// What a run of chaos in the demo is: short enough to be watched.
const (
	demoChaosLength = time.Minute
	demoChaosEvery  = 4 * time.Second
	demoChaosRate   = 8 // orders per second
	// demoChaosEnd is longer than the deadline of the demo's orders, which some of
	// those that meet a fault wait for.
	demoChaosEnd = 90 * time.Second
)

// chaos is a minute of chaos in the demo itself, for the page. There is none
// where a server is somebody else's: half of the faults could not be caused.
func (o upOptions) chaos(s *stack.Stack, p *printer) control.Chaos {
	if o.kafka != "" || o.postgres != "" {
		return nil
	}
	return func(ctx context.Context, seed uint64, healed func(), progress func(string, ...any)) (control.Verdict, error) {
		p.say("chaos for %s, asked for on the page", demoChaosLength)
		rep, err := chaos.Run(ctx, chaosOn(s, chaos.Config{
			Seed: seed, For: demoChaosLength, Every: demoChaosEvery, Rate: demoChaosRate, End: demoChaosEnd, Kinds: fault.Kinds(), Progress: progress, Healed: healed,
		}))
		if err != nil {
			p.say("chaos: no verdict: %v", err)
			return control.Verdict{}, err
		}
		p.say("chaos: ok %t under seed %d", rep.OK, rep.Seed)
		return control.Verdict{OK: rep.OK, Failures: rep.Failures, Summary: rep.Summary()}, nil
	}
}
