package main

import (
	"os"
	"testing"

	"pavane/migrations"
	"pavane/payment-svc/internal/payment"
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
	db := pgtest.WithKit(t, migrations.Payment())
	out, err := outbox.New(outbox.Config{Source: "/payment-svc", Topics: contract.Topics()})
	if err != nil {
		t.Fatal(err)
	}
	s := payment.New(db, map[string]payment.Method{"wallet": payment.Wallet{}})
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
	five := contract.Money{Amount: 500, Currency: "EUR"}
	for order, customer := range map[string]string{"o-1": "cust-01", "o-2": "cust-01", "o-3": "cust-20"} {
		handle(contract.OrderPlaced{OrderID: order, CustomerID: customer, Total: five, PaymentMethod: "wallet"})
	}
	handle(contract.InventoryReserved{OrderID: "o-1"})
	handle(contract.InventoryReserved{OrderID: "o-2"})
	handle(contract.InventoryReserved{OrderID: "o-3"})
	handle(contract.OrderConfirmed{OrderID: "o-1"})
	handle(contract.OrderCancelled{OrderID: "o-2"})
	handle(contract.OrderCancelled{OrderID: "o-3"})
	sagatest.RequirePublished(t, db,
		event.Numbered{Event: contract.PaymentAuthorized{OrderID: "o-1", Amount: five}, Sequence: 1},
		event.Numbered{Event: contract.PaymentAuthorized{OrderID: "o-2", Amount: five}, Sequence: 1},
		event.Numbered{Event: contract.PaymentDeclined{OrderID: "o-3", Reason: "the wallet holds 0.00 EUR, the order costs 5.00 EUR"}, Sequence: 1},
		event.Numbered{Event: contract.PaymentCaptured{OrderID: "o-1", Amount: five}, Sequence: 2},
		event.Numbered{Event: contract.PaymentVoided{OrderID: "o-2", Amount: five}, Sequence: 2},
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
