package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	sustainedWriters = 4
	sustainedRows    = 10 // events a transaction
	backlogLook      = 100 * time.Millisecond
)

// sustained is a while in which writers write as fast as they can.
type sustained struct {
	Way       string  `json:"way"`
	Held      bool    `json:"held"`
	Rows      int     `json:"rows"`
	Written   float64 `json:"written_per_s"`
	Published float64 `json:"published_per_s"`
	Backlog   float64 `json:"backlog_s"`     // in seconds of writing; nine of ten looks found less
	Ended     float64 `json:"backlog_end_s"` // when the writers stopped
	Bytes     float64 `json:"bytes_per_row"` // of the outbox, its indexes and the journal
	Dead      int     `json:"dead_tuples"`   // at the end
	Changed   int     `json:"rows_changed"`  // updates and deletes: each leaves a dead tuple for a while
	CPU       usage   `json:"cpu"`
	Log       *tally  `json:"log"`
}

func sustainedLoad(ctx context.Context, r *rig) error {
	all := map[string]sustained{}
	for _, w := range r.ways() {
		d := r.sustainedFor
		if w.poll > 0 {
			d /= 3
		}
		s, err := r.sustain(ctx, w, d, false)
		if err != nil {
			return err
		}
		all[w.name] = s
	}
	figures := func(measure string, f func(sustained) float64) {
		values := map[string]float64{}
		for name, of := range all {
			values[name] = f(of)
		}
		r.found.figure(r.section, measure, values)
	}
	figures("written/s", func(s sustained) float64 { return s.Written })
	figures("published/s", func(s sustained) float64 { return s.Published })
	figures("backlog, s of writing", func(s sustained) float64 { return s.Backlog })
	figures("bytes/row", func(s sustained) float64 { return s.Bytes })
	figures("dead tuples", func(s sustained) float64 { return float64(s.Dead) })
	figures("updates and deletes", func(s sustained) float64 { return float64(s.Changed) })
	figures("CPU µs/row, relay", func(s sustained) float64 { return s.CPU.Relay })
	figures("CPU µs/row, broker", func(s sustained) float64 { return s.CPU.Broker })
	figures("CPU µs/row, Postgres with the writing", func(s sustained) float64 { return s.CPU.Postgres })
	ours, peer := all[pavane().name], all[textbook1000().name]
	r.found.goal(r.section, "backlog, s of writing", ours.Backlog, atMost(0.2))
	r.found.goal(r.section, "CPU/row to the textbook's", ratio(ours.CPU.total(), peer.CPU.total()), atMost(0.7))
	r.found.goal(r.section, "bytes/row to the textbook's", ratio(ours.Bytes, peer.Bytes), atMost(0.45))
	r.found.goal(r.section, "dead tuples", float64(ours.Dead), atMost(100))
	return nil
}

// sustain measures one way on fresh data.
func (r *rig) sustain(ctx context.Context, w way, d time.Duration, held bool) (s sustained, err error) {
	t, err := r.newTrial(ctx, w)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	release, err := t.hold(ctx, held)
	if err != nil {
		return s, err
	}
	defer release()
	if s, err = t.sustain(ctx, d); err != nil {
		return s, err
	}
	s.Held = held
	r.found.add(r.section, s)
	r.found.promise(r.section, w, "each row once and in order", s.Log)
	r.say("  %s%s: %.0f written/s, %.0f published/s, backlog %.2f s, %.0f bytes/row, %d dead tuples, %.0f+%.0f+%.0f µs/row, %s, %.0f %% stolen, others %.0f %%", w.name, heldText(held),
		s.Written, s.Published, s.Backlog, s.Bytes, s.Dead, s.CPU.Relay, s.CPU.Broker, s.CPU.Postgres, s.Log, 100*s.CPU.Stolen, 100*s.CPU.Others)
	return s, nil
}

func (t *trial) sustain(ctx context.Context, d time.Duration) (sustained, error) {
	s := sustained{Way: t.way.name}
	if err := t.calm(ctx); err != nil {
		return s, err
	}
	c, err := t.launch()
	if err != nil {
		return s, err
	}
	defer c.kill()
	before := t.read(c)
	backlog, err := t.writeFlatOut(ctx, d, &s)
	if err != nil {
		return s, errors.Join(err, c.gone())
	}
	s.CPU = t.read(c).since(before, s.Rows)
	s.Backlog, s.Ended = quantileOf(backlog, .9)/s.Written, backlog[len(backlog)-1]/s.Written
	s.Published = s.Written - math.Round(backlog[len(backlog)-1]/d.Seconds())
	if err := t.awaitPublished(ctx, c); err != nil {
		return s, err
	}
	c.stop()
	if s.Log, err = t.count(ctx, s.Rows); err != nil {
		return s, err
	}
	return s, t.tables(ctx, &s)
}

// writeFlatOut runs the writers for d, and returns how many rows were committed
// and not in the log, time and again.
func (t *trial) writeFlatOut(ctx context.Context, d time.Duration, s *sustained) (backlog []float64, err error) {
	w, err := t.newWriter(t.way, sustainedWriters, 0)
	if err != nil {
		return nil, err
	}
	defer w.db.Close() //nolint:errcheck // all is committed
	var rows atomic.Int64
	group, writing := errgroup.WithContext(ctx)
	began := time.Now()
	for i := range sustainedWriters {
		group.Go(func() error { return w.flatOut(writing, i, began.Add(d), &rows) })
	}
	tick := time.NewTicker(backlogLook)
	defer tick.Stop()
	for time.Since(began) < d && writing.Err() == nil {
		<-tick.C
		waiting, err := t.notInLog(writing, &rows)
		if err != nil {
			break // the writers' own error tells more, if there is one
		}
		backlog = append(backlog, float64(waiting))
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	s.Rows, s.Written = int(rows.Load()), perSecond(int(rows.Load()), time.Since(began))
	waiting, err := t.notInLog(ctx, &rows)
	return append(backlog, float64(waiting)), err
}

func (t *trial) notInLog(ctx context.Context, rows *atomic.Int64) (int, error) {
	written := int(rows.Load()) // first: what comes meanwhile must not count as a backlog
	got, err := t.inLog(ctx)
	return max(written-got, 0), err
}

// flatOut writes orders of its own keys, each with some events, until the end.
func (w *writer) flatOut(ctx context.Context, number int, end time.Time, rows *atomic.Int64) error {
	next := map[string]int64{}
	for n := 0; time.Now().Before(end); n++ {
		key := fmt.Sprintf("flat-%d-%d", number, n%500)
		if err := w.order(ctx, key, next[key]+1, sustainedRows); err != nil {
			return err
		}
		next[key] += sustainedRows
		rows.Add(sustainedRows)
	}
	return nil
}

// tables reads what the outbox and, of Pavane's, the journal take and leave.
func (t *trial) tables(ctx context.Context, s *sustained) error {
	const query = `select coalesce(sum(pg_total_relation_size(c.oid)), 0)::float8 / $2,
  coalesce(sum(pg_stat_get_dead_tuples(c.oid)), 0)::bigint,
  coalesce(sum(pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid)), 0)::bigint,
  coalesce(sum(pg_stat_get_tuples_inserted(c.oid)) filter (where c.relname not in ('relay_journal', 'relay_ack')), 0)::bigint
from pg_class c where c.oid in (select relid from pg_partition_tree($1::text::regclass))
  or $1::text = 'outbox' and c.relname in ('relay_journal', 'relay_ack') or $1::text <> 'outbox' and c.oid = $1::text::regclass`
	for deadline := time.Now().Add(stopTime); ; {
		var inserted int
		err := t.db.SQL().QueryRowContext(ctx, query, t.way.table, s.Rows).Scan(&s.Bytes, &s.Dead, &s.Changed, &inserted)
		if err != nil {
			return fmt.Errorf("size of the tables: %w", err)
		}
		s.Bytes = math.Round(s.Bytes)
		// Processes tell the statistics what they did with some delay.
		if inserted >= s.Rows || time.Now().After(deadline) {
			return nil
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func quantileOf(values []float64, share float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(int(math.Ceil(share*float64(len(sorted))))-1, 0)]
}
