package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/migrations"
	"pavane/order-svc/internal/order"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/react"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestSaga_WithoutConnections_IsASoundTable(t *testing.T) {
	t.Parallel()
	if err := react.Validate(saga(nil), contract.Topics()); err != nil {
		t.Error(err)
	}
}

// TestSaga_EveryReaction_EmitsOnlyWhatItDeclares hands each row the event it reads
// and holds what comes back against what a peer's fact must lead to.
func TestSaga_EveryReaction_EmitsOnlyWhatItDeclares(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	db := pgtest.WithKit(t, migrations.Order())
	box, err := outbox.New(outbox.Config{Source: "/order-svc", Topics: contract.Topics()})
	if err != nil {
		t.Fatal(err)
	}
	s := order.New(order.Config{DB: db, Outbox: box, Logger: slog.New(slog.DiscardHandler), Deadline: time.Minute})
	if err := s.Seed(ctx); err != nil {
		t.Fatal(err)
	}
	heard := map[string]bool{}
	for _, path := range []struct {
		facts func(id string, total contract.Money) []event.Event
		want  []string
	}{
		{func(id string, total contract.Money) []event.Event {
			return []event.Event{
				contract.PaymentAuthorized{OrderID: id, Amount: total},
				contract.PaymentCaptured{OrderID: id, Amount: total},
				contract.InventoryShipped{OrderID: id},
			}
		}, []string{"order.confirmed.v1"}},
		{func(id string, _ contract.Money) []event.Event {
			return []event.Event{contract.InventoryRejected{OrderID: id}}
		}, []string{"order.cancelled.v1"}},
		{func(id string, total contract.Money) []event.Event {
			return []event.Event{
				contract.PaymentDeclined{OrderID: id}, contract.InventoryReleased{OrderID: id}, contract.PaymentVoided{OrderID: id, Amount: total},
			}
		}, []string{"order.cancelled.v1"}},
	} {
		o, _, err := s.Place(ctx, order.Request{CustomerID: "cust-01", Lines: []order.Line{{SKU: "tin", Quantity: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		err = db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			for _, fact := range path.facts(o.ID, o.Total) {
				heard[fact.Kind()] = true
				events, err := handle(ctx, tx, s, fact)
				if err != nil {
					return err
				}
				for _, e := range events {
					got = append(got, e.Event.Kind())
				}
			}
			return nil
		})
		if err != nil || !slices.Equal(got, path.want) {
			t.Errorf("got %v, want %v: %v", got, path.want, err)
		}
	}
	for _, r := range saga(s) {
		if r.Kind != "" && !heard[r.Kind] {
			t.Errorf("no path of this test hears %s", r.Kind)
		}
	}
}

func handle(ctx context.Context, tx *sqlx.Tx, s *order.Service, fact event.Event) ([]event.Numbered, error) {
	data, err := json.Marshal(fact)
	if err != nil {
		return nil, err
	}
	rows := saga(s)
	i := slices.IndexFunc(rows, func(r react.Reaction) bool { return r.Kind == fact.Kind() })
	return rows[i].Handle(ctx, tx, event.Envelope{ID: "1", Source: "/test", Kind: fact.Kind(), Key: fact.Key(), Sequence: 1, Data: data})
}
