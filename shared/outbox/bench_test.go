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

	"pavane/migrations"
	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

// BenchmarkEvent_BesideAnOrder compares transactions that write an order with ones
// that also tell of it, by Change, by ChangeNow and by Append: 8 clients, in short slices that
// take turns, so that a busy machine is as busy for all. 1.00 is: as many
// transactions. Once with the database at hand, once with each of its answers half
// a millisecond later, as over a network.
func BenchmarkEvent_BesideAnOrder(b *testing.B) {
	url := pgtest.Database(b)
	db := pgtest.Open(b, url)
	pgtest.Migrate(b, db, migrations.Kit())
	out, err := outbox.New(outbox.Config{Source: "/test", Topics: event.Topics{"fact": "facts.v1"}})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := db.SQL().ExecContext(b.Context(), `create table orders (id text primary key, total bigint not null, status text not null)`); err != nil {
		b.Fatal(err)
	}
	w := &orders{out: out}
	b.Run("at-hand", func(b *testing.B) {
		w.db = db
		w.compare(b)
	})
	b.Run("half-a-millisecond-away", func(b *testing.B) {
		p, address := throughProxy(b, url)
		p.Slow(500 * time.Microsecond)
		w.db = pgtest.Open(b, address)
		w.compare(b)
	})
}

// orders writes orders, each with a new id.
type orders struct {
	db  *postgres.DB
	out *outbox.Outbox
	id  atomic.Int64
}

func (w *orders) compare(b *testing.B) {
	const rounds = 21
	for b.Loop() {
		var alone, changed, now, appended []float64
		for range rounds {
			n := w.slice(b, w.inTx(w.alone))
			alone = append(alone, n)
			changed = append(changed, w.slice(b, w.inTx(w.change))/n)
			appended = append(appended, w.slice(b, w.inTx(w.append))/n)
			now = append(now, w.slice(b, w.now)/n)
		}
		for name, figures := range map[string][]float64{"alone-tx/s": alone, "change-of-alone": changed, "now-of-alone": now, "append-of-alone": appended} {
			slices.Sort(figures)
			b.ReportMetric(figures[rounds/2], name)
		}
	}
}

// slice returns the transactions per second of a short while.
func (w *orders) slice(b *testing.B, write func(ctx context.Context, id string) error) float64 {
	const (
		clients = 8
		slice   = 250 * time.Millisecond
	)
	until := time.Now().Add(slice)
	before := w.id.Load()
	var group errgroup.Group
	for range clients {
		group.Go(func() error {
			for time.Now().Before(until) {
				id := "order-" + strconv.FormatInt(w.id.Add(1), 10)
				if err := write(b.Context(), id); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	return float64(w.id.Load()-before) / slice.Seconds()
}

func (w *orders) inTx(write func(ctx context.Context, tx *sqlx.Tx, id string) error) func(context.Context, string) error {
	return func(ctx context.Context, id string) error {
		return w.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return write(ctx, tx, id) })
	}
}

func (w *orders) now(ctx context.Context, id string) error {
	_, err := w.out.ChangeNow(ctx, w.db, []event.Event{told{ID: id, Text: text}}, orderSQL+" returning 1", id, 1999, "placed")
	return err
}

const orderSQL = `insert into orders (id, total, status) values ($1, $2, $3)`

func (w *orders) alone(ctx context.Context, tx *sqlx.Tx, id string) error {
	_, err := tx.ExecContext(ctx, orderSQL, id, 1999, "placed")
	return err
}

func (w *orders) change(ctx context.Context, tx *sqlx.Tx, id string) error {
	_, err := w.out.Change(ctx, tx, []event.Event{told{ID: id, Text: text}}, orderSQL+" returning 1", id, 1999, "placed")
	return err
}

func (w *orders) append(ctx context.Context, tx *sqlx.Tx, id string) error {
	if err := w.alone(ctx, tx, id); err != nil {
		return err
	}
	return w.out.Append(ctx, tx, event.Number(1, told{ID: id, Text: text})...)
}

const text = "A parcel with three books, a lamp and a card, for a customer who pays with a wallet, to be sent today; " +
	"the address is the one of last time, the second floor, and the bell does not work. The amount is in minor units, with its currency."
