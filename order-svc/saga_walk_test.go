package main

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/migrations"
	"pavane/order-svc/internal/order"
	"pavane/proof/search"
	"pavane/proof/search/replay"
	"pavane/shared/contract"
	"pavane/shared/fault"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

// TestSaga_WalksOfTheSearch_DoTheSameOnPostgres keeps the model of proof/search
// from drifting from this service.
func TestSaga_WalksOfTheSearch_DoTheSameOnPostgres(t *testing.T) {
	t.Parallel()
	replay.Walks(t, "..", func(t *testing.T, c search.Config) replay.Service {
		db := pgtest.WithKit(t, migrations.Order())
		out, err := outbox.New(outbox.Config{Source: "/order-svc", Topics: contract.Topics()})
		if err != nil {
			t.Fatal(err)
		}
		s := order.New(order.Config{DB: db, Outbox: out, Logger: slog.New(slog.DiscardHandler), Deadline: time.Hour})
		if err := s.Seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		w := &walker{s: s, db: db, c: c, placed: map[int]order.Order{}}
		return replay.Service{
			Name: "order-svc", DB: db, Outbox: out, Reactions: saga(s),
			Order: func(k int) contract.OrderPlaced {
				return contract.OrderPlaced{OrderID: w.placed[k].ID, Total: w.placed[k].Total}
			},
			Ask: w.ask, State: w.state,
		}
	})
}

// walker makes the requests of a walk. Orders get their ids when they are placed.
type walker struct {
	s      *order.Service
	db     *postgres.DB
	c      search.Config
	placed map[int]order.Order
}

func (w *walker) ask(ctx context.Context, request string, k int) error {
	id := w.placed[k].ID
	switch {
	case request == search.Place:
		return w.place(ctx, k)
	case id == "":
		return nil // nobody knows an id to ask for
	case request == search.Cancel:
		if _, err := w.s.Cancel(ctx, id, order.Anybody); fault.ClassOf(err) != fault.ClassConflict {
			return err
		}
		return nil
	default:
		return w.due(ctx, id)
	}
}

func (w *walker) place(ctx context.Context, k int) error {
	r := order.Request{CustomerID: w.c.Orders[k].Customer, IdempotencyKey: fmt.Sprintf("order-%d", k)}
	for _, i := range w.c.Orders[k].Items {
		r.Lines = append(r.Lines, order.Line{SKU: i.SKU, Quantity: int64(i.Quantity)})
	}
	o, replayed, err := w.s.Place(ctx, r)
	if _, before := w.placed[k]; err == nil && replayed != before {
		return fmt.Errorf("replayed: %t; want %t", replayed, before)
	}
	w.placed[k] = o
	return err
}

// due lets the deadline of an order come, and those who watch it act.
func (w *walker) due(ctx context.Context, id string) error {
	err := w.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, `update deadlines set try_at = clock_timestamp() where order_id = $1`, id)
		return err
	})
	if err != nil {
		return err
	}
	_, err = w.s.FireDue(ctx)
	return err
}

func (w *walker) state(ctx context.Context, id string) (string, error) {
	if id == "" {
		return "none", nil
	}
	o, err := w.s.Get(ctx, id, order.Anybody)
	e := o.Effects
	return search.OrderState(string(o.State), string(o.Reason), e.Captured, e.Voided, e.Shipped, e.Released), err
}
