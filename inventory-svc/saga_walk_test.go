package main

import (
	"context"
	"fmt"
	"testing"

	"pavane/inventory-svc/internal/inventory"
	"pavane/migrations"
	"pavane/proof/search"
	"pavane/proof/search/replay"
	"pavane/shared/contract"
	"pavane/shared/fault"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
)

// TestSaga_WalksOfTheSearch_DoTheSameOnPostgres keeps the model of proof/search
// from drifting from this service.
func TestSaga_WalksOfTheSearch_DoTheSameOnPostgres(t *testing.T) {
	t.Parallel()
	replay.Walks(t, "..", func(t *testing.T, c search.Config) replay.Service {
		db := pgtest.WithKit(t, migrations.Inventory())
		out, err := outbox.New(outbox.Config{Source: "/inventory-svc", Topics: contract.Topics()})
		if err != nil {
			t.Fatal(err)
		}
		s := inventory.New(db)
		for sku, n := range c.Stock {
			if err := s.Receive(t.Context(), "walk", []inventory.Item{{SKU: sku, Quantity: int64(n)}}); err != nil {
				t.Fatal(err)
			}
		}
		return replay.Service{
			Name: "inventory-svc", DB: db, Outbox: out, Reactions: saga(s),
			Order: func(k int) contract.OrderPlaced { return placed(k, c.Orders[k]) },
			State: func(ctx context.Context, id string) (string, error) {
				r, err := s.Reservation(ctx, id)
				if fault.ClassOf(err) == fault.ClassNotFound {
					return string(inventory.StateNew), nil
				}
				return string(r.State), err
			},
			Stock: func(ctx context.Context) (map[string]search.Amount, error) { return amounts(ctx, s) },
		}
	})
}

func placed(k int, o search.Order) contract.OrderPlaced {
	e := contract.OrderPlaced{OrderID: fmt.Sprintf("o-%d", k)}
	for _, i := range o.Items {
		e.Items = append(e.Items, contract.Item{SKU: i.SKU, Quantity: int64(i.Quantity)})
	}
	return e
}

func amounts(ctx context.Context, s *inventory.Service) (map[string]search.Amount, error) {
	rows, err := s.Stock(ctx)
	stock := map[string]search.Amount{}
	for _, r := range rows {
		stock[r.SKU] = search.Amount{Available: int(r.Available), Reserved: int(r.Reserved), Sold: int(r.Sold)}
	}
	return stock, err
}
