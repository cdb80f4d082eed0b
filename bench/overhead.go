package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	overheadClients = 8
	// tooMuchStolen marks a cycle that says nothing: the host worked for others.
	tooMuchStolen = 0.10
	leastCycles   = 3
)

// cycle is one short slice of each kind of writing, one after the other, in
// transactions per second.
type cycle struct {
	Alone    float64 `json:"order_alone_per_s"`
	Pavane   float64 `json:"pavane_per_s"` // by one statement, Outbox.Change
	Append   float64 `json:"append_per_s"` // by a second one, Outbox.Append
	Now      float64 `json:"now_per_s"`    // by one that is a transaction of its own, Outbox.ChangeNow
	Textbook float64 `json:"textbook_per_s"`
	Flush    float64 `json:"added_flush_us"`
	Stolen   float64 `json:"stolen"`
	Others   float64 `json:"others"`
}

// slowFlush is what a commit takes on an ordinary server's disk (fdatasync of a
// networked volume: 0.4 to 0.7 ms). Where a flush takes a tenth of that, writers
// wait for the processor alone, and a second statement costs what it costs there.
const slowFlush = 450 * time.Microsecond

// overhead compares writing an order with writing an order and its event, in
// slices so short that the machine is the same for all of a cycle.
func overhead(ctx context.Context, r *rig) error {
	for _, flush := range r.flushes {
		cycles, err := r.overheadWith(ctx, flush)
		if err != nil {
			return err
		}
		r.reportOverhead(flush, cycles)
	}
	return nil
}

func (r *rig) overheadWith(ctx context.Context, flush time.Duration) (cycles []cycle, err error) {
	t, err := r.newTrial(ctx, pavane())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	if err := t.calm(ctx); err != nil {
		return nil, err
	}
	ours, err := t.newWriter(pavane(), overheadClients, flush)
	if err != nil {
		return nil, err
	}
	defer ours.db.Close() //nolint:errcheck // all is committed
	peer, err := t.newWriter(textbook1000(), overheadClients, flush)
	if err != nil {
		return nil, err
	}
	defer peer.db.Close() //nolint:errcheck // all is committed
	for n := range r.cycles + 1 {
		c, err := t.cycle(ctx, n, ours, peer)
		if err != nil {
			return nil, err
		}
		if n == 0 { // connections open, statements are prepared
			continue
		}
		c.Flush = flush.Seconds() * 1e6
		r.found.add(r.section, c)
		cycles = append(cycles, c)
	}
	return cycles, nil
}

func (t *trial) cycle(ctx context.Context, n int, ours, peer *writer) (c cycle, err error) {
	before := t.read(nil)
	slices := []func() error{
		func() (err error) { c.Alone, err = ours.slice(ctx, t.slice, ours.alone); return err },
		func() (err error) { c.Pavane, err = ours.slice(ctx, t.slice, ours.change); return err },
		func() (err error) { c.Append, err = ours.slice(ctx, t.slice, ours.orderAndEvent); return err },
		func() (err error) { c.Now, err = ours.slice(ctx, t.slice, ours.changeNow); return err },
		func() (err error) { c.Textbook, err = peer.slice(ctx, t.slice, peer.orderAndEvent); return err },
	}
	for i := range slices { // each begins in turn
		if err := slices[(n+i)%len(slices)](); err != nil {
			return c, err
		}
	}
	used := t.read(nil).since(before, 1)
	c.Stolen, c.Others = used.Stolen, used.Others
	return c, nil
}

// slice writes for d with all clients and returns transactions per second.
func (w *writer) slice(ctx context.Context, d time.Duration, write func(context.Context, string) error) (float64, error) {
	var n atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for client := range overheadClients {
		group.Go(func() error {
			for i := 0; time.Since(began) < d; i++ {
				if err := write(ctx, fmt.Sprintf("over-%d-%d", client, i)); err != nil {
					return err
				}
				n.Add(1)
			}
			return nil
		})
	}
	err := group.Wait()
	return perSecond(int(n.Load()), time.Since(began)), err
}

func (w *writer) alone(ctx context.Context, key string) error { return w.order(ctx, key, 1, 0) }

func (w *writer) orderAndEvent(ctx context.Context, key string) error {
	return w.order(ctx, key, 1, 1)
}

func (r *rig) reportOverhead(flush time.Duration, cycles []cycle) {
	calm := make([]cycle, 0, len(cycles))
	for _, c := range cycles {
		if c.Stolen <= tooMuchStolen {
			calm = append(calm, c)
		}
	}
	if len(calm) < leastCycles {
		calm = cycles
	}
	ours := medianOf(calm, func(c cycle) float64 { return ratio(c.Pavane, c.Alone) })
	second := medianOf(calm, func(c cycle) float64 { return ratio(c.Append, c.Alone) })
	now := medianOf(calm, func(c cycle) float64 { return ratio(c.Now, c.Alone) })
	peer := medianOf(calm, func(c cycle) float64 { return ratio(c.Textbook, c.Alone) })
	disk := "this disk"
	if flush > 0 {
		disk = "a slower disk"
	}
	r.say("  on %s %.2f of the order alone, with Append after it %.2f, as one statement without a transaction around it %.2f, the textbook's %.2f; %d of %d cycles", disk, ours, second, now, peer, len(calm), len(cycles))
	r.found.figure(r.section, "order and event, tx/s, "+disk, map[string]float64{
		pavane().name:       medianOf(calm, func(c cycle) float64 { return c.Pavane }),
		textbook1000().name: medianOf(calm, func(c cycle) float64 { return c.Textbook }),
		machine:             medianOf(calm, func(c cycle) float64 { return c.Alone }),
	})
	r.found.figure(r.section, "to the order alone with a second statement, "+disk, map[string]float64{pavane().name: second})
	r.found.figure(r.section, "to the order alone as one statement by itself, "+disk, map[string]float64{pavane().name: now})
	r.found.figure(r.section, "to the order alone, "+disk, map[string]float64{pavane().name: ours, textbook1000().name: peer, machine: 1})
	if flush > 0 {
		r.found.goal(r.section, "order and event to the order alone, "+disk, ours, atLeast(0.8))
	}
}
