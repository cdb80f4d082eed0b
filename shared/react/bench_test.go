package react_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/postgres"
	"pavane/shared/react"
)

// The effects of the benchmarks: one small row for each event.

func putRow(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
	_, err := tx.ExecContext(ctx, `insert into effect (key, n) values ($1, $2)`, e.ID, e.N)
	return nil, err
}

func putRows(ctx context.Context, tx *sqlx.Tx, batch []did) ([][]event.Numbered, error) {
	keys, numbers := make([]string, len(batch)), make([]int64, len(batch))
	for i, e := range batch {
		keys[i], numbers[i] = e.ID, e.N
	}
	const insert = `insert into effect (key, n) select t.key, t.n from unnest($1::text[], $2::bigint[]) as t (key, n)`
	_, err := tx.ExecContext(ctx, insert, postgres.Array(keys), postgres.Array(numbers))
	return nil, err
}

func putRowAndTell(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
	_, err := putRow(ctx, tx, e)
	return event.Number(e.N, told{ID: e.ID, N: e.N}), err
}

func putRowsAndTell(ctx context.Context, tx *sqlx.Tx, batch []did) ([][]event.Numbered, error) {
	_, err := putRows(ctx, tx, batch)
	tells := make([][]event.Numbered, len(batch))
	for i, e := range batch {
		tells[i] = event.Number(e.N, told{ID: e.ID, N: e.N})
	}
	return tells, err
}

func reactions() map[string]react.Reaction {
	return map[string]react.Reaction{
		"nothing":           react.On(func(context.Context, *sqlx.Tx, did) ([]event.Numbered, error) { return nil, nil }),
		"row/On":            react.On(putRow),
		"row/OnBatch":       react.OnBatch(putRows),
		"row+event/On":      react.On(putRowAndTell, told{}),
		"row+event/OnBatch": react.OnBatch(putRowsAndTell, told{}),
	}
}

// BenchmarkDeliver measures records through the inbox without a broker, 500 a
// transaction, 1,000 keys.
func BenchmarkDeliver(b *testing.B) {
	for name, reaction := range reactions() {
		b.Run(name, func(b *testing.B) {
			r := newRig(b)
			c := r.consumer(func(c *react.ConsumerConfig) { c.BatchSize, c.Reactions = 500, []react.Reaction{reaction} })
			records := make([]broker.Record, b.N)
			for i := range records {
				records[i] = r.next(did{ID: fmt.Sprintf("key-%d", i%1000), N: int64(i/1000) + 1}, int64(i/1000)+1)
			}
			b.ResetTimer()
			if err := c.Deliver(b.Context(), records...); err != nil {
				b.Fatal(err)
			}
			perSecond(b)
		})
	}
}

// BenchmarkRun measures the same from the log, once the consumer has joined.
func BenchmarkRun(b *testing.B) {
	for _, name := range []string{"row/On", "row/OnBatch"} {
		b.Run(name, func(b *testing.B) {
			s := newStage(b)
			var records []broker.Record
			for i := range b.N {
				records = append(records, record(did{ID: fmt.Sprintf("key-%d", i%1000), N: int64(i/1000) + 1}, int64(i/1000)+1))
				if len(records) == 2000 || i == b.N-1 {
					s.write(records...)
					records = nil
				}
			}
			c := s.with(func(c *react.ConsumerConfig) { c.BatchSize, c.Reactions = 0, []react.Reaction{reactions()[name]} })
			applied := func() int { return selected[int](s.rig, `select coalesce(sum(next_offset), 0) from inbox_offset`)[0] }
			stop := s.run(b.Context(), c)
			await.True(b, time.Minute, "member of the group", func() bool { return c.Ready(b.Context()) == nil })
			b.ResetTimer()
			before := applied()
			await.True(b, time.Minute, "all applied", func() bool { return applied() == b.N })
			b.StopTimer()
			b.ReportMetric(float64(b.N-before)/b.Elapsed().Seconds(), "records/s")
			stop()
		})
	}
}

// BenchmarkDeliver_MillionKeys compares an inbox that holds a million keys with
// an empty one in short slices that take turns, each of 1,000 new keys with 5
// events. 1.00 is: as fast.
func BenchmarkDeliver_MillionKeys(b *testing.B) {
	const keys, events, rounds = 1000, 5, 20
	full, empty := newRig(b), newRig(b)
	for n := range 20 {
		full.exec(`insert into inbox (source, key, last_seq) select $1, md5(n::text), 5 from generate_series($2::int, $3) n`, source, n*50_000, n*50_000+49_999)
	}
	full.exec(`analyze inbox`)
	slice := func(r *rig) float64 {
		c := r.consumer(func(c *react.ConsumerConfig) {
			c.BatchSize, c.Reactions, c.Metrics = 500, []react.Reaction{react.OnBatch(putRows)}, nil
		})
		var records []broker.Record
		for range keys {
			key := rand.Text()
			for n := range int64(events) {
				records = append(records, r.next(did{ID: key, N: n + 1}, n+1))
			}
		}
		begin := time.Now()
		r.deliver(c, records...)
		return time.Since(begin).Seconds()
	}
	for b.Loop() {
		var ratios []float64
		for range rounds {
			ratios = append(ratios, slice(empty)/slice(full))
		}
		slices.Sort(ratios)
		b.ReportMetric(ratios[len(ratios)/2], "of-empty")
	}
}

// BenchmarkDeliver_PoisonKeyAmong200 compares a service in which one of 200 keys
// is parked, and gets records all the same, with one in which none is, in short
// slices that take turns. 1.00 is: the other 199 are as fast.
func BenchmarkDeliver_PoisonKeyAmong200(b *testing.B) {
	const keys, events, rounds = 200, 25, 60
	for _, name := range []string{"row/On", "row+event/OnBatch"} {
		b.Run(name, func(b *testing.B) {
			clean, poisoned := newRig(b), newRig(b)
			poisoned.deliver(poisoned.consumer(), poisoned.record("key-0", 1, "permanent"))
			next := map[*rig]int64{clean: 0, poisoned: 1}
			slice := func(r *rig) float64 {
				c := r.consumer(func(c *react.ConsumerConfig) {
					c.BatchSize, c.Reactions, c.Metrics = 500, []react.Reaction{reactions()[name]}, nil
				})
				var records []broker.Record
				for range int64(events) {
					next[r]++
					for k := range keys {
						n := next[r]
						if r == poisoned && k > 0 {
							n-- // only the poisoned key began before
						}
						records = append(records, r.next(did{ID: fmt.Sprint("key-", k), N: n}, n))
					}
				}
				begin := time.Now()
				r.deliver(c, records...)
				return time.Since(begin).Seconds()
			}
			slice(clean)
			slice(poisoned)
			for b.Loop() {
				var ratios []float64
				for range rounds {
					ratios = append(ratios, slice(clean)/slice(poisoned))
				}
				slices.Sort(ratios)
				b.ReportMetric(ratios[len(ratios)/2], "of-clean")
			}
			b.ReportMetric(float64(poisoned.parked()[0].Records), "parked")
		})
	}
}

func perSecond(b *testing.B) {
	b.Helper()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
