package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"pavane/shared/broker"
)

const (
	latencyRate = 200 // transactions a second
	// warmRate is that of the load before anything counts: Java compiles what it
	// has run often enough, and a drain runs nothing of a record on its own.
	warmRate = 800
	// arriveTime is how long after the load the last record may come.
	arriveTime = 20 * time.Second
)

// latency is the time from the return of COMMIT until a consumer has the record.
type latency struct {
	Way     string  `json:"way"`
	Held    bool    `json:"held"` // while somebody held a writing transaction open
	Round   int     `json:"round"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
	Written int     `json:"written"`
	Came    int     `json:"came"`
	CPU     usage   `json:"cpu"`
	Log     *tally  `json:"log"`

	all []time.Duration
}

func latencies(ctx context.Context, r *rig) error {
	if err := r.warmSingles(ctx); err != nil {
		return err
	}
	all := map[string][]latency{}
	for round := 1; round <= r.latencyRounds; round++ {
		for _, w := range r.ways() {
			if w.poll == 100 && round > 1 {
				continue
			}
			l, err := r.latencyRound(ctx, w, round, false)
			if err != nil {
				return err
			}
			all[w.name] = append(all[w.name], l)
		}
	}
	figures := func(measure string, f func(latency) float64) {
		values := map[string]float64{}
		for name, of := range all {
			values[name] = medianOf(of, f)
		}
		r.found.figure(r.section, measure, values)
	}
	figures("p50 ms", func(l latency) float64 { return l.P50 })
	figures("p99 ms", func(l latency) float64 { return l.P99 })
	figures("max ms", func(l latency) float64 { return l.Max })
	ours, peer := all[pavane().name], all[textbook1000().name]
	var p50, p99 []float64
	for i := range ours {
		p50, p99 = append(p50, ratio(ours[i].P50, peer[i].P50)), append(p99, ratio(ours[i].P99, peer[i].P99))
	}
	r.found.goal(r.section, "p50 to the textbook's", median(p50), atMost(0.5))
	r.found.goal(r.section, "p99 to the textbook's", median(p99), atMost(0.6))
	r.found.goal(r.section, "p50 ms", medianOf(ours, func(l latency) float64 { return l.P50 }), atMost(3))
	return nil
}

// warmSingles has the broker handle records that come one by one.
func (r *rig) warmSingles(ctx context.Context) (err error) {
	t, err := r.newTrial(ctx, pavane())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	c, err := t.launch()
	if err != nil {
		return err
	}
	defer c.kill()
	orders := int(r.warmSinglesFor.Seconds() * warmRate)
	r.say("  warming up the broker with %d records one by one", orders)
	return t.load(ctx, make([]time.Time, orders), make([]time.Time, orders), warmRate)
}

// load writes as many orders as there are, at a rate, and reads along. A row that
// does not come in time shows as one that is missing.
func (t *trial) load(ctx context.Context, committed, came []time.Time, rate float64) error {
	took := time.Duration(float64(len(committed)) / rate * float64(time.Second))
	reading, stop := context.WithTimeout(ctx, took+arriveTime)
	defer stop()
	group, reading := errgroup.WithContext(reading)
	group.Go(func() error { return t.readAlong(reading, came) })
	if err := t.writeAtRate(ctx, committed, rate); err != nil {
		return err
	}
	if err := group.Wait(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// latencyRound measures one way on fresh data.
func (r *rig) latencyRound(ctx context.Context, w way, round int, held bool) (l latency, err error) {
	t, err := r.newTrial(ctx, w)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	release, err := t.hold(ctx, held)
	if err != nil {
		return l, err
	}
	defer release()
	if l, err = t.latency(ctx); err != nil {
		return l, err
	}
	l.Round, l.Held = round, held
	r.found.add(r.section, l)
	r.found.promise(r.section, w, "each row once and in order", l.Log)
	r.say("  %s%s: p50 %.1f ms, p99 %.1f, max %.1f, %d of %d came, relay %.0f + Postgres %.0f µs/row, %.0f %% stolen, others %.0f %%", w.name, heldText(held),
		l.P50, l.P99, l.Max, l.Came, l.Written, l.CPU.Relay, l.CPU.Postgres, 100*l.CPU.Stolen, 100*l.CPU.Others)
	return l, nil
}

// latency writes at a constant rate and reads along.
func (t *trial) latency(ctx context.Context) (latency, error) {
	l := latency{Way: t.way.name}
	if err := t.calm(ctx); err != nil {
		return l, err
	}
	c, err := t.launch()
	if err != nil {
		return l, err
	}
	defer c.kill()
	if err := t.awaitStarted(ctx, c); err != nil {
		return l, err
	}
	rest := int(t.settleIn.Seconds() * latencyRate)
	orders := rest + int(t.latencyFor.Seconds()*latencyRate)
	committed, came := make([]time.Time, orders), make([]time.Time, orders)
	before := t.read(c)
	if err := t.load(ctx, committed, came, latencyRate); err != nil {
		return l, errors.Join(err, c.gone())
	}
	l.CPU = t.read(c).since(before, orders)
	for n := rest; n < orders; n++ {
		l.Written++
		if !came[n].IsZero() {
			l.Came++
			l.all = append(l.all, max(came[n].Sub(committed[n]), 0))
		}
	}
	l.P50, l.P99, l.Max = ms(quantile(l.all, .5)), ms(quantile(l.all, .99)), ms(quantile(l.all, 1))
	c.stop()
	written, err := t.written(ctx)
	if err != nil {
		return l, err
	}
	l.Log, err = t.count(ctx, written)
	return l, err
}

// awaitStarted has the relay publish a first order: its start is not what is
// measured here.
func (t *trial) awaitStarted(ctx context.Context, c *child) error {
	w, err := t.newWriter(t.way, 1, 0)
	if err != nil {
		return err
	}
	defer w.db.Close() //nolint:errcheck // all is committed
	if err := w.order(ctx, "first", 1, 1); err != nil {
		return err
	}
	_, _, err = t.awaitLog(ctx, c, 1)
	return err
}

// writeAtRate writes an order whenever one is due, whether or not those before
// are committed.
func (t *trial) writeAtRate(ctx context.Context, committed []time.Time, rate float64) error {
	w, err := t.newWriter(t.way, 16, 0)
	if err != nil {
		return err
	}
	defer w.db.Close() //nolint:errcheck // all is committed
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for n := 0; n < len(committed); {
		due := min(int(time.Since(began).Seconds()*rate)+1, len(committed))
		for ; n < due; n++ {
			order := n
			group.Go(func() error {
				err := w.order(ctx, orderKey(order), 1, 1)
				committed[order] = time.Now()
				return err
			})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), group.Wait())
		}
	}
	return group.Wait()
}

const orderPrefix = "late-"

func orderKey(n int) string { return orderPrefix + strconv.Itoa(n) }

// readAlong notes when each record came, until all have.
func (t *trial) readAlong(ctx context.Context, came []time.Time) error {
	at := make([]broker.Position, partitions)
	for p := range at {
		at[p] = broker.Position{Topic: t.name, Partition: int32(p)}
	}
	for left := len(came); left > 0; {
		got, err := t.client.Fetch(ctx, at, time.Second, 1<<20)
		now := time.Now()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		at = got.Next
		for _, rec := range got.Records {
			if !strings.HasPrefix(string(rec.Key), orderPrefix) {
				continue
			}
			n, err := strconv.Atoi(strings.TrimPrefix(string(rec.Key), orderPrefix))
			if err != nil || n >= len(came) {
				return fmt.Errorf("a record with key %q came", rec.Key)
			}
			if came[n].IsZero() {
				came[n] = now
				left--
			}
		}
	}
	return nil
}

// hold opens a transaction that has written, and keeps it open until release.
func (t *trial) hold(ctx context.Context, held bool) (release func(), err error) {
	if !held {
		return func() {}, nil
	}
	w, err := t.newWriter(t.way, 1, 0)
	if err != nil {
		return nil, err
	}
	began, end := make(chan error, 1), make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		err := w.holdOpen(ctx, began, end)
		if !errors.Is(err, errReleased) {
			began <- err
		}
	})
	if err := <-began; err != nil {
		return nil, fmt.Errorf("hold a transaction: %w", err)
	}
	return func() {
		close(end)
		wait.Wait()
		_ = w.db.Close() // it was rolled back
	}, nil
}

func heldText(held bool) string {
	if held {
		return ", a transaction held open"
	}
	return ""
}
