package main

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/internal/providersim"
	"pavane/migrations"
	"pavane/payment-svc/internal/payment"
	"pavane/payment-svc/internal/provider"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/sagatest"
	"pavane/shared/story"
)

// TestSaga_PaidByCard_StoryNamesTheCauseOfEachEvent has the whole service but its
// broker: reactions, charger, outbox and a provider.
func TestSaga_PaidByCard_StoryNamesTheCauseOfEachEvent(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t, migrations.Payment())
	out, err := outbox.New(outbox.Config{Source: "/payment-svc", Topics: contract.Topics()})
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := providersim.OpenLedger(filepath.Join(t.TempDir(), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ledger.Close() }) //nolint:errcheck // the test is over
	quiet := slog.New(slog.DiscardHandler)
	server := httptest.NewServer(providersim.NewServer(ledger, "", quiet))
	t.Cleanup(server.Close)
	client := provider.New(provider.Config{URL: server.URL, Timeout: time.Second})
	t.Cleanup(client.Close)
	methods := map[string]payment.Method{}
	domain := payment.New(db, methods)
	charger := payment.NewCharger(payment.ChargerConfig{
		DB: db, Service: domain, Outbox: out, Provider: client, Timeout: time.Second, Logger: quiet,
		Alone: func(context.Context, *sqlx.Tx) error { return nil },
	})
	methods["card"] = payment.Card{Wake: charger.Wake}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- charger.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })

	table, five := saga(domain), contract.Money{Amount: 500, Currency: "EUR"}
	steps := []struct {
		in      event.Event
		comesTo payment.State
	}{
		{contract.OrderPlaced{OrderID: "o-1", CustomerID: "c", Total: five, PaymentMethod: "card", CardToken: "tok_ok"}, payment.StateWaiting},
		{contract.InventoryReserved{OrderID: "o-1"}, payment.StateAuthorized},
		{contract.OrderConfirmed{OrderID: "o-1"}, payment.StateCaptured},
	}
	for _, step := range steps {
		for _, r := range table {
			if r.Kind == step.in.Kind() {
				if err := sagatest.Apply(t, db, out, r, step.in); err != nil {
					t.Fatal(err)
				}
			}
		}
		await.True(t, 30*time.Second, "the payment is "+string(step.comesTo), func() bool {
			p, _, err := domain.Payment(t.Context(), "o-1")
			return err == nil && p.State == step.comesTo
		})
	}
	told, err := story.Load(t.Context(), db, "o-1", 1)
	if err != nil || len(told.Written) != 2 {
		t.Fatalf("the story is %+v (%v), want two events", told, err)
	}
	for _, w := range told.Written {
		if w.CausationID == "" || w.CorrelationID != "o-1" {
			t.Errorf("%s names %q as its cause and %q as its saga", w.Kind, w.CausationID, w.CorrelationID)
		}
	}
	if told.Written[0].CausationID == told.Written[1].CausationID {
		t.Error("both events name the same cause")
	}
}
