package main

import (
	"context"
	"fmt"
)

// held measures latency and flat-out writing again while a transaction that has
// written is held open.
func held(ctx context.Context, r *rig) error {
	ratios, p50, came := map[string][]float64{}, map[string]float64{}, map[string]float64{}
	for round := 1; round <= r.heldRounds; round++ {
		for _, w := range r.ways()[:r.sideWays] {
			if w.poll > 0 && round > 1 {
				continue
			}
			var pair [2]latency
			for i, hold := range []bool{false, true} {
				var err error
				if pair[i], err = r.latencyRound(ctx, w, round, hold); err != nil {
					return err
				}
			}
			ratios[w.name] = append(ratios[w.name], ratio(pair[1].P50, pair[0].P50))
			p50[w.name], came[w.name] = pair[1].P50, ratio(float64(pair[1].Came), float64(pair[1].Written))
		}
	}
	flat := map[string]float64{}
	for _, w := range r.ways()[:r.sideWays] {
		s, err := r.sustain(ctx, w, r.heldFor, true)
		if err != nil {
			return err
		}
		flat[w.name] = s.Backlog
	}
	medians := map[string]float64{}
	for name, of := range ratios {
		medians[name] = median(of)
	}
	r.found.figure(r.section, "p50 ms, held", p50)
	r.found.figure(r.section, "p50 held to not held", medians)
	r.found.figure(r.section, "share that came meanwhile", came)
	r.found.figure(r.section, "backlog, s of writing, held", flat)
	ours := pavane().name
	r.found.goal(r.section, "p50 held to not held", medians[ours], atMost(1.2))
	r.found.goal(r.section, "share that came meanwhile", came[ours], atLeast(1))
	r.found.goal(r.section, fmt.Sprintf("backlog, s of writing, held for %s", r.heldFor), flat[ours], atMost(0.2))
	return nil
}
