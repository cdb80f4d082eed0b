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

	"pavane/inventory-svc/internal/api"
	"pavane/inventory-svc/internal/inventory"
	"pavane/migrations"
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

func TestRoutes_AfterAnOrder_TellStockAndReservation(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t, migrations.Inventory())
	s := inventory.New(db)
	server := httpapi.New(httpapi.Config{Title: "inventory-svc", Version: "1", Logger: slog.New(slog.DiscardHandler)})
	api.Register(server, s)
	if err := s.SeedDemo(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := s.Reserve(ctx, tx, contract.OrderPlaced{OrderID: "o-1", Items: []contract.Item{{SKU: "kettle", Quantity: 2}}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var r api.Reservation
	get(t, server.Handler(), "/v1/reservations/o-1", http.StatusOK, &r)
	if r.OrderID != "o-1" || r.State != "reserved" || r.Version != 1 || len(r.Items) != 1 || r.Items[0] != (api.Item{SKU: "kettle", Quantity: 2}) {
		t.Errorf("reservation is %+v", r)
	}
	var list struct{ Stock []api.Stock }
	get(t, server.Handler(), "/v1/stock", http.StatusOK, &list)
	if len(list.Stock) != 12 || list.Stock[3] != (api.Stock{SKU: "kettle", Available: 48, Reserved: 2}) {
		t.Errorf("stock is %+v", list.Stock)
	}
	var problem struct{ Detail string }
	get(t, server.Handler(), "/v1/reservations/none", http.StatusNotFound, &problem)
	if problem.Detail != `no reservation for order "none"; it may not have come here yet` {
		t.Errorf("detail %q", problem.Detail)
	}
}

func TestLedger_WhatIsReserved_IsWhatOpenReservationsComeTo(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t, migrations.Inventory())
	s := inventory.New(db)
	server := httpapi.New(httpapi.Config{Title: "inventory-svc", Version: "1", Logger: slog.New(slog.DiscardHandler)})
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
		_, err := s.Reserve(ctx, tx, contract.OrderPlaced{OrderID: "o-1", Items: []contract.Item{{SKU: "kettle", Quantity: 2}, {SKU: "tin", Quantity: 1}}})
		return err
	})
	var body api.LedgerBody
	get(t, server.Handler(), "/v1/ledger", http.StatusOK, &body)
	want := api.Held{Stock: api.Stock{SKU: "kettle", Available: 48, Reserved: 2}, Received: 50, Bound: 2}
	if len(body.Stock) != 12 || body.Stock[3] != want || len(body.Suspects) != 0 {
		t.Errorf("ledger is %+v", body)
	}
	change(func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, `update reservations set state = 'released' where order_id = 'o-1'`)
		return err
	})
	body = api.LedgerBody{}
	get(t, server.Handler(), "/v1/ledger", http.StatusOK, &body)
	if len(body.Suspects) != 1 || body.Suspects[0] != "o-1" {
		t.Errorf("a reservation lost its release, and the suspects are %v", body.Suspects)
	}
}
