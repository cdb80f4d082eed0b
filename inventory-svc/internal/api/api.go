// Package api owns the HTTP routes of inventory-svc. They only read; stock
// changes by events.
package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"pavane/inventory-svc/internal/inventory"
	"pavane/shared/httpapi"
)

// Stock is what there is of one SKU.
type Stock struct {
	SKU       string `json:"sku"`
	Available int64  `json:"available" doc:"may be reserved"`
	Reserved  int64  `json:"reserved" doc:"set aside for orders that are not confirmed yet"`
	Sold      int64  `json:"sold" doc:"left the stock"`
}

// Item is an amount of one SKU.
type Item struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

// Reservation is what became of an order's items.
type Reservation struct {
	OrderID   string    `json:"order_id"`
	State     string    `json:"state" enum:"reserved,rejected,shipped,released,refused"`
	Reason    string    `json:"reason,omitempty" doc:"for people: why it was rejected or refused"`
	Items     []Item    `json:"items" doc:"empty when the order was off before it was known"`
	Version   int64     `json:"version" doc:"events published about the order"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// StockList is the answer with all SKUs.
type StockList struct {
	Body struct {
		Stock []Stock `json:"stock" doc:"by SKU"`
	}
}

// Held is what the ledger and the reservations say of one SKU.
type Held struct {
	Stock
	Received int64 `json:"received" doc:"all that ever came in: available, reserved and sold together"`
	Bound    int64 `json:"bound" doc:"the items of reservations in the state reserved; reserved is as much"`
}

// LedgerBody is what all stock adds up to.
type LedgerBody struct {
	Stock    []Held   `json:"stock" doc:"by SKU"`
	Suspects []string `json:"suspects" doc:"some orders whose reservation and ledger entries do not fit, when the sums differ"`
}

// Ledger is the answer with what all stock adds up to.
type Ledger struct{ Body LedgerBody }

// OneReservation is the answer with one reservation.
type OneReservation struct{ Body Reservation }

type byOrder struct {
	OrderID string `path:"order" minLength:"1" maxLength:"100" doc:"the order's id"`
}

// Register binds the routes to server.
func Register(server *httpapi.Server, s *inventory.Service) {
	httpapi.Register(server, huma.Operation{
		OperationID: "list-stock", Method: http.MethodGet, Path: "/v1/stock", Summary: "What there is of each SKU",
	}, func(ctx context.Context, _ *struct{}) (*StockList, error) { return stock(ctx, s) })
	httpapi.Register(server, huma.Operation{
		OperationID: "get-stock-ledger", Method: http.MethodGet, Path: "/v1/ledger", Summary: "What all stock adds up to",
	}, func(ctx context.Context, _ *struct{}) (*Ledger, error) { return ledger(ctx, s) })
	httpapi.Register(server, huma.Operation{
		OperationID: "get-reservation", Method: http.MethodGet, Path: "/v1/reservations/{order}",
		Summary: "What became of an order's items", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *byOrder) (*OneReservation, error) {
		return reservation(ctx, s, in.OrderID)
	})
}

func ledger(ctx context.Context, s *inventory.Service) (*Ledger, error) {
	all, suspects, err := s.Ledger(ctx)
	if err != nil {
		return nil, err
	}
	out := &Ledger{Body: LedgerBody{Stock: make([]Held, len(all)), Suspects: suspects}}
	for i, one := range all {
		out.Body.Stock[i] = Held{Stock: Stock(one.Stock), Received: one.Received, Bound: one.Bound}
	}
	return out, nil
}

func stock(ctx context.Context, s *inventory.Service) (*StockList, error) {
	all, err := s.Stock(ctx)
	if err != nil {
		return nil, err
	}
	out := &StockList{}
	out.Body.Stock = make([]Stock, len(all))
	for i, one := range all {
		out.Body.Stock[i] = Stock(one)
	}
	return out, nil
}

func reservation(ctx context.Context, s *inventory.Service, orderID string) (*OneReservation, error) {
	r, err := s.Reservation(ctx, orderID)
	if err != nil {
		return nil, err
	}
	out := &OneReservation{Body: Reservation{
		OrderID: r.OrderID, State: string(r.State), Reason: r.Reason, Items: make([]Item, len(r.Items)),
		Version: r.Version, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}}
	for i, item := range r.Items {
		out.Body.Items[i] = Item(item)
	}
	return out, nil
}
