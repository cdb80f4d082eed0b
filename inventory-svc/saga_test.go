package main

import (
	"os"
	"testing"

	"pavane/inventory-svc/internal/inventory"
	"pavane/migrations"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/react"
	"pavane/shared/sagatest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestSaga_ThroughInboxAndOutbox_EachEventIsHandledOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t, migrations.Inventory())
	out, err := outbox.New(outbox.Config{Source: "/inventory-svc", Topics: contract.Topics()})
	if err != nil {
		t.Fatal(err)
	}
	s := inventory.New(db)
	if err := s.SeedDemo(t.Context()); err != nil {
		t.Fatal(err)
	}
	table := saga(s)
	if err := react.Validate(table, contract.Topics()); err != nil {
		t.Error(err)
	}
	handle := func(e event.Event) {
		t.Helper()
		for _, r := range table {
			if r.Kind == e.Kind() {
				sagatest.RequireHandledOnce(t, db, out, r, e)
				return
			}
		}
		t.Errorf("no reaction on %s", e.Kind())
	}
	one := []contract.Item{{SKU: "pot-cast", Quantity: 5}}
	handle(contract.OrderPlaced{OrderID: "o-1", Items: one})
	handle(contract.OrderPlaced{OrderID: "o-2", Items: one})
	handle(contract.PaymentDeclined{OrderID: "o-1"})
	handle(contract.OrderCancelled{OrderID: "o-1"})
	handle(contract.OrderPlaced{OrderID: "o-3", Items: one})
	handle(contract.OrderConfirmed{OrderID: "o-3"})
	sagatest.RequirePublished(t, db,
		event.Numbered{Event: contract.InventoryReserved{OrderID: "o-1"}, Sequence: 1},
		event.Numbered{Event: contract.InventoryRejected{OrderID: "o-2", Reason: "pot-cast: 5 wanted, 0 left"}, Sequence: 1},
		event.Numbered{Event: contract.InventoryReleased{OrderID: "o-1"}, Sequence: 2},
		event.Numbered{Event: contract.InventoryReserved{OrderID: "o-3"}, Sequence: 1},
		event.Numbered{Event: contract.InventoryShipped{OrderID: "o-3"}, Sequence: 2},
	)
}

func TestConfig_UnknownSeed_IsRefused(t *testing.T) {
	t.Parallel()
	if err := (Config{Seed: "production"}).Validate(); err == nil {
		t.Error("the seed \"production\" was taken")
	}
	for _, seed := range []string{"", "demo"} {
		if err := (Config{Seed: seed}).Validate(); err != nil {
			t.Errorf("seed %q: %v", seed, err)
		}
	}
}
