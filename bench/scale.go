package main

import (
	"context"
	"errors"
	"fmt"
)

// tenfold is by how much the long drain is longer.
const tenfold = 10

// scale drains a backlog and one ten times as long: the cost must follow the
// work, and the memory must not.
func scale(ctx context.Context, r *rig) error {
	var short, long []drain
	for round := 1; round <= 2; round++ {
		for _, rows := range []int{r.rows, tenfold * r.rows} {
			d, err := r.scaleOne(ctx, rows)
			if err != nil {
				return err
			}
			if d.Round = round; rows == r.rows {
				short = append(short, d)
			} else {
				long = append(long, d)
			}
		}
	}
	seconds := func(d drain) float64 { return float64(d.Rows) / d.Rate }
	memory := func(d drain) float64 { return d.Peak }
	name := pavane().name
	var times, memories []float64
	for i := range long {
		times = append(times, ratio(seconds(long[i]), tenfold*seconds(short[i])))
		memories = append(memories, ratio(long[i].Peak, short[i].Peak))
	}
	for _, of := range [][]drain{short, long} {
		r.found.figure(r.section, fmt.Sprintf("s for %d rows", of[0].Rows), map[string]float64{name: medianOf(of, seconds)})
		r.found.figure(r.section, fmt.Sprintf("memory at most, MB, %d rows", of[0].Rows), map[string]float64{name: medianOf(of, memory)})
	}
	r.found.goal(r.section, "time of ten times the rows to ten times the time", median(times), atMost(1.2))
	r.found.goal(r.section, "memory of ten times the rows to that of one", median(memories), atMost(1.2))
	return nil
}

func (r *rig) scaleOne(ctx context.Context, rows int) (d drain, err error) {
	r.say("  filling the outbox with %d rows", rows)
	t, err := r.newFilled(ctx, pavane(), rows)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	if d, err = t.drain(ctx, rows); err != nil {
		return d, err
	}
	if d.Log, err = t.count(ctx, rows); err != nil {
		return d, err
	}
	r.found.add(r.section, d)
	r.found.promise(r.section, t.way, "each row once and in order", d.Log)
	r.say("  %d rows: %.0f rows/s, %.1f+%.1f+%.1f µs/row, %.0f MB, %s, %.0f %% stolen, others %.0f %%", rows, d.Rate,
		d.CPU.Relay, d.CPU.Broker, d.CPU.Postgres, d.Peak, d.Log, 100*d.CPU.Stolen, 100*d.CPU.Others)
	return d, nil
}
