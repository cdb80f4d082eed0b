package outbox_test

import (
	"context"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

// BenchmarkAppend_BesideAnOrder compares transactions that write an order with
// ones that also tell of it: 8 clients, in short slices that take turns, so that
// a busy machine is as busy for both. 1.00 is: as many transactions.
func BenchmarkAppend_BesideAnOrder(b *testing.B) {
	const (
		clients = 8
		slice   = 250 * time.Millisecond
		rounds  = 21
	)
	db := pgtest.WithKit(b)
	out, err := outbox.New(outbox.Config{Source: "/test", Topics: event.Topics{"fact": "facts.v1"}})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := db.SQL().ExecContext(b.Context(), `create table orders (id text primary key, total bigint not null, status text not null)`); err != nil {
		b.Fatal(err)
	}
	var id atomic.Int64
	run := func(tell bool) (transactions int64) {
		until := time.Now().Add(slice)
		var group errgroup.Group
		before := id.Load()
		for range clients {
			group.Go(func() error {
				for time.Now().Before(until) {
					if err := place(b.Context(), db, out, id.Add(1), tell); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			b.Fatal(err)
		}
		return id.Load() - before
	}
	for b.Loop() {
		var ratios, alone []float64
		for range rounds {
			n := float64(run(false))
			ratios, alone = append(ratios, float64(run(true))/n), append(alone, n/slice.Seconds())
		}
		slices.Sort(ratios)
		slices.Sort(alone)
		b.ReportMetric(ratios[rounds/2], "of-alone")
		b.ReportMetric(ratios[rounds/4], "lower-quartile")
		b.ReportMetric(alone[rounds/2], "alone-tx/s")
	}
}

func place(ctx context.Context, db *postgres.DB, out *outbox.Outbox, n int64, tell bool) error {
	const order = `insert into orders (id, total, status) values ($1, $2, $3)`
	return db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		id := "order-" + strconv.FormatInt(n, 10)
		if _, err := tx.ExecContext(ctx, order, id, 1999, "placed"); err != nil || !tell {
			return err
		}
		return out.Append(ctx, tx, event.Number(1, told{ID: id, Text: text})...)
	})
}

const text = "A parcel with three books, a lamp and a card, for a customer who pays with a wallet, to be sent today; " +
	"the address is the one of last time, the second floor, and the bell does not work. The amount is in minor units, with its currency."
