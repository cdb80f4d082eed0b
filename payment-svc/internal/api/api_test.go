package api_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/jmoiron/sqlx"

	"pavane/migrations"
	"pavane/payment-svc/internal/api"
	"pavane/payment-svc/internal/payment"
	"pavane/shared/contract"
	"pavane/shared/httpapi"
	"pavane/shared/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// get asks the routes and reads the answer into body.
func get(t *testing.T, h http.Handler, path string, status int, body any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	if w.Code != status {
		t.Fatalf("GET %s: %d %s; want %d", path, w.Code, w.Body, status)
	}
	if err := json.Unmarshal(w.Body.Bytes(), body); err != nil {
		t.Fatalf("GET %s: %v: %s", path, err, w.Body)
	}
}

func TestRoutes_AfterAnAuthorisation_TellPaymentAndAccounts(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t, migrations.Payment())
	s := payment.New(db, map[string]payment.Method{"wallet": payment.Wallet{}})
	server := httpapi.New(httpapi.Config{Title: "payment-svc", Version: "1", Logger: slog.New(slog.DiscardHandler)})
	api.Register(server, s)
	if err := s.SeedDemo(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := s.AuthorizeReserved(ctx, tx, contract.InventoryReserved{OrderID: "o-1"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var p api.Payment
	get(t, server.Handler(), "/v1/payments/o-1", http.StatusOK, &p)
	if p.State != "waiting" || p.Amount != nil || p.Transfers == nil || len(p.Transfers) != 0 {
		t.Errorf("payment of an order not known yet is %+v", p)
	}
	euros := contract.Money{Amount: 500, Currency: "EUR"}
	err = db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := s.AuthorizePlaced(ctx, tx, contract.OrderPlaced{OrderID: "o-1", CustomerID: "cust-01", Total: euros, PaymentMethod: "wallet"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	get(t, server.Handler(), "/v1/payments/o-1", http.StatusOK, &p)
	if p.State != "authorized" || *p.Amount != euros || p.CustomerID != "cust-01" || p.Version != 1 ||
		len(p.Transfers) != 1 || p.Transfers[0].Kind != "authorize" || p.Transfers[0].Amount != euros {
		t.Errorf("payment is %+v", p)
	}
	var wallet struct{ Accounts []api.Account }
	get(t, server.Handler(), "/v1/accounts/cust-01", http.StatusOK, &wallet)
	if len(wallet.Accounts) != 1 || wallet.Accounts[0].Held != euros || wallet.Accounts[0].Available.Amount != 99_999_500 {
		t.Errorf("accounts are %+v", wallet.Accounts)
	}
	var problem struct{ Detail string }
	get(t, server.Handler(), "/v1/payments/none", http.StatusNotFound, &problem)
	get(t, server.Handler(), "/v1/accounts/none", http.StatusNotFound, &problem)
	if problem.Detail != `customer "none" has no account` {
		t.Errorf("detail %q", problem.Detail)
	}
}

func TestLedger_WhatIsHeld_IsWhatOpenPaymentsComeTo(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t, migrations.Payment())
	s := payment.New(db, map[string]payment.Method{"wallet": payment.Wallet{}})
	server := httpapi.New(httpapi.Config{Title: "payment-svc", Version: "1", Logger: slog.New(slog.DiscardHandler)})
	api.Register(server, s)
	if err := s.SeedDemo(t.Context()); err != nil {
		t.Fatal(err)
	}
	change := func(f func(ctx context.Context, tx *sqlx.Tx) error) {
		t.Helper()
		if err := db.InTx(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	change(func(ctx context.Context, tx *sqlx.Tx) error {
		placed := contract.OrderPlaced{OrderID: "o-1", CustomerID: "cust-01", Total: contract.Money{Amount: 500, Currency: "EUR"}, PaymentMethod: "wallet"}
		if _, err := s.AuthorizePlaced(ctx, tx, placed); err != nil {
			return err
		}
		_, err := s.AuthorizeReserved(ctx, tx, contract.InventoryReserved{OrderID: "o-1"})
		return err
	})
	ledger := func() (sum, held int64, unsettled []contract.Money, suspects []string) {
		var body struct {
			Balances  []api.Balance
			Unsettled []contract.Money
			Suspects  []string
		}
		get(t, server.Handler(), "/v1/ledger", http.StatusOK, &body)
		for _, b := range body.Balances {
			sum += b.Balance.Amount
			if b.Kind == "held" {
				held += b.Balance.Amount
			}
		}
		return sum, held, body.Unsettled, body.Suspects
	}
	if sum, held, unsettled, suspects := ledger(); sum != 0 || held != 500 || len(unsettled) != 1 || unsettled[0].Amount != 500 || len(suspects) != 0 {
		t.Errorf("sum %d, held %d, unsettled %v, suspects %v", sum, held, unsettled, suspects)
	}
	change(func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, `update payments set state = 'captured' where order_id = 'o-1'`)
		return err
	})
	if _, _, _, suspects := ledger(); len(suspects) != 1 || suspects[0] != "o-1" {
		t.Errorf("a payment lost its capture, and the suspects are %v", suspects)
	}
}
