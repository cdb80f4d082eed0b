package order

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/migrations"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// bench is one seeded database with a service on it.
type bench struct {
	t      *testing.T
	ctx    context.Context
	db     *postgres.DB
	outbox *outbox.Outbox
	s      *Service
}

func setup(t *testing.T, deadline time.Duration) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	b := &bench{t: t, ctx: ctx, db: pgtest.WithKit(t, migrations.Order())}
	var err error
	if b.outbox, err = outbox.New(outbox.Config{Source: "/order-svc", Topics: contract.Topics()}); err != nil {
		t.Fatal(err)
	}
	b.s = b.instance(deadline)
	if err := b.s.Seed(ctx); err != nil {
		t.Fatal(err)
	}
	return b
}

// instance is another process on the same database.
func (b *bench) instance(deadline time.Duration) *Service {
	return New(Config{DB: b.db, Outbox: b.outbox, Logger: slog.New(slog.DiscardHandler), Deadline: deadline})
}

func request() Request {
	return Request{CustomerID: "cust-01", Lines: []Line{{"mug-red", 2}, {"tea-green", 1}}}
}

func (b *bench) place() Order {
	b.t.Helper()
	o, _, err := b.s.Place(b.ctx, request())
	if err != nil {
		b.t.Fatal(err)
	}
	return o
}

// hear runs a reaction as the consumer does: handler and outbox in one transaction.
func hear[E event.Event](b *bench, h func(context.Context, *sqlx.Tx, E) ([]event.Numbered, error), e E) error {
	return b.db.InTx(b.ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		events, err := h(ctx, tx, e)
		if err != nil {
			return err
		}
		return b.outbox.Append(ctx, tx, events...)
	})
}

func (b *bench) authorize(o Order) error {
	return hear(b, b.s.Confirm, contract.PaymentAuthorized{OrderID: o.ID, Amount: o.Total})
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) exec(statement string, args ...any) error {
	return b.db.InTx(b.ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	})
}

func (b *bench) get(o Order) Order {
	b.t.Helper()
	o, err := b.s.Get(b.ctx, o.ID, Anybody)
	b.must(err)
	return o
}

func (b *bench) count(query string, args ...any) int {
	b.t.Helper()
	var n int
	b.must(b.db.Read(b.ctx, func(ctx context.Context, tx *sqlx.Tx) error { return tx.GetContext(ctx, &n, query, args...) }))
	return n
}

// published returns the kinds in the outbox for an order, and checks that their
// numbers are 1, 2, 3 …
func (b *bench) published(id string) []string {
	b.t.Helper()
	var rows []struct {
		Sequence int    `db:"sequence"`
		Type     string `db:"type"`
	}
	b.must(b.db.Read(b.ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		return tx.SelectContext(ctx, &rows, `select sequence, type from outbox where key = $1 order by id`, id)
	}))
	kinds := make([]string, len(rows))
	for i, r := range rows {
		if kinds[i] = r.Type; r.Sequence != i+1 {
			b.t.Errorf("event %d of %s has the number %d", i+1, id, r.Sequence)
		}
	}
	return kinds
}
