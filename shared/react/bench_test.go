package react_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/react"
)

// BenchmarkDeliver measures one record through the inbox, 500 a transaction,
// 1,000 keys: alone, with one small row per effect, and with an event as well.
func BenchmarkDeliver(b *testing.B) {
	insert := func(ctx context.Context, tx *sqlx.Tx, e did) error {
		_, err := tx.ExecContext(ctx, `insert into effect (key, n) values ($1, $2)`, e.ID, e.N)
		return err
	}
	for _, bench := range []struct {
		name   string
		handle react.Handler[did]
	}{
		{"kit", func(context.Context, *sqlx.Tx, did) ([]event.Numbered, error) { return nil, nil }},
		{"row", func(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
			return nil, insert(ctx, tx, e)
		}},
		{"row+event", func(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
			return event.Number(e.N, told{ID: e.ID, N: e.N}), insert(ctx, tx, e)
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			r := newRig(b)
			c := r.consumer(func(c *react.ConsumerConfig) {
				c.BatchSize, c.Reactions = 500, []react.Reaction{react.On(bench.handle, told{})}
			})
			records := make([]broker.Record, b.N)
			for i := range records {
				n := int64(i/1000) + 1
				records[i] = record(did{ID: fmt.Sprintf("key-%d", i%1000), N: n}, n)
				records[i].Offset = int64(i)
			}
			b.ResetTimer()
			r.deliver(c, records...)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
