// Package api owns the HTTP routes of the order service: what goes in, what
// comes out, and under which status. The gateway is its only client.
package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"pavane/order-svc/internal/order"
	"pavane/shared/httpapi"
	"pavane/shared/identity"
)

// routes binds the service's methods to operations.
type routes struct {
	orders *order.Service
}

// Register binds all routes of the service to srv.
func Register(srv *httpapi.Server, orders *order.Service) {
	r := routes{orders: orders}
	httpapi.Register(srv, huma.Operation{
		OperationID: "place-order", Method: http.MethodPost, Path: "/v1/orders", DefaultStatus: http.StatusCreated,
		Summary: "Place an order",
		Description: "Answers 201 as soon as the order is written; it is decided later. With an Idempotency-Key a repetition " +
			"of the same request answers 200 with the same order, and another request under that key 422. A key is kept for 24 hours.",
		Errors: []int{http.StatusBadRequest, http.StatusForbidden, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, r.place)
	httpapi.Register(srv, huma.Operation{
		OperationID: "cancel-order", Method: http.MethodPost, Path: "/v1/orders/{id}/cancel",
		Summary:     "Cancel an order",
		Description: "An order that is cancelled already is answered as it is; a confirmed one is a 409.",
		Errors:      []int{http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
	}, r.cancel)
	httpapi.Register(srv, huma.Operation{
		OperationID: "get-order", Method: http.MethodGet, Path: "/v1/orders/{id}",
		Summary: "Show an order",
		Errors:  []int{http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, r.get)
	httpapi.Register(srv, huma.Operation{
		OperationID: "list-orders", Method: http.MethodGet, Path: "/v1/orders",
		Summary: "List orders, the newest first",
		Errors:  []int{http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, r.list)
	httpapi.Register(srv, huma.Operation{
		OperationID: "list-products", Method: http.MethodGet, Path: "/v1/products",
		Summary: "List the catalogue",
	}, r.products)
	httpapi.Register(srv, huma.Operation{
		OperationID: "list-customers", Method: http.MethodGet, Path: "/v1/customers",
		Summary: "List the customers", Errors: []int{http.StatusForbidden},
	}, r.customers)
}

type placeInput struct {
	IdempotencyKey string `header:"Idempotency-Key" doc:"Names the request: a token, or a string in double quotes (draft-ietf-httpapi-idempotency-key-header); 1 to 255 visible ASCII characters"`
	Body           struct {
		CustomerID    string `json:"customer_id,omitempty" minLength:"1" maxLength:"64" doc:"Who orders; left out: whom the request is for"`
		Items         []line `json:"items" minItems:"1" maxItems:"100" doc:"Each SKU once"`
		PaymentMethod string `json:"payment_method,omitempty" enum:"wallet,card" doc:"How to pay; left out: wallet"`
		CardToken     string `json:"card_token,omitempty" maxLength:"64" doc:"What the payment provider calls the card, for card alone; never a card number"`
		Currency      string `json:"currency,omitempty" pattern:"^[A-Z]{3}$" doc:"ISO 4217 code; left out: that of the catalogue"`
	}
}

type line struct {
	SKU      string `json:"sku" minLength:"1" maxLength:"64" doc:"A product of the catalogue"`
	Quantity int64  `json:"quantity" minimum:"1" maximum:"1000" doc:"How many pieces"`
}

type placeOutput struct {
	Status   int
	Location string `header:"Location"`
	Replayed string `header:"Idempotency-Replayed" doc:"true when the answer is the order of an earlier request"`
	Body     orderView
}

func (r routes) place(ctx context.Context, in *placeInput) (*placeOutput, error) {
	key, err := idempotencyKey(in.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	customer, err := customerOf(ctx, in.Body.CustomerID)
	if err != nil {
		return nil, err
	}
	req := order.Request{
		CustomerID: customer, PaymentMethod: in.Body.PaymentMethod, CardToken: in.Body.CardToken, Currency: in.Body.Currency, IdempotencyKey: key,
		Lines: make([]order.Line, len(in.Body.Items)),
	}
	for i, l := range in.Body.Items {
		req.Lines[i] = order.Line(l)
	}
	o, replayed, err := r.orders.Place(ctx, req)
	if err != nil {
		return nil, err
	}
	out := &placeOutput{Status: http.StatusCreated, Location: "/v1/orders/" + o.ID, Body: viewOf(o)}
	if replayed {
		out.Status, out.Replayed = http.StatusOK, "true"
	}
	return out, nil
}

type cancelInput struct {
	ID string `path:"id" doc:"The order's id, a UUID"`
}

type orderOutput struct {
	Body orderView
}

func (r routes) cancel(ctx context.Context, in *cancelInput) (*orderOutput, error) {
	owner, err := owner(ctx, identity.Principal.ActsForAll)
	if err != nil {
		return nil, err
	}
	o, err := r.orders.Cancel(ctx, in.ID, owner)
	if err != nil {
		return nil, err
	}
	return &orderOutput{Body: viewOf(o)}, nil
}

type getInput struct {
	ID   string `path:"id" doc:"The order's id, a UUID"`
	Wait string `query:"wait" example:"5s" doc:"Answer when the order is decided or this time is over: a duration of at most 30s"`
}

func (r routes) get(ctx context.Context, in *getInput) (*orderOutput, error) {
	wait, err := waitTime(in.Wait)
	if err != nil {
		return nil, err
	}
	owner, err := owner(ctx, identity.Principal.SeesAll)
	if err != nil {
		return nil, err
	}
	show := r.orders.Get
	if wait > 0 {
		show = func(ctx context.Context, id string, owner order.Owner) (order.Order, error) {
			return r.orders.Await(ctx, id, owner, wait)
		}
	}
	o, err := show(ctx, in.ID, owner)
	if err != nil {
		return nil, err
	}
	v := viewOf(o)
	if o.State == order.Placed {
		if v.DeadlineAt, err = r.orders.Deadline(ctx, in.ID, owner); err != nil {
			return nil, err
		}
	}
	return &orderOutput{Body: v}, nil
}

type listInput struct {
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many at most"`
	After string `query:"after" format:"uuid" doc:"The next of the page before"`
	State string `query:"state" enum:"placed,confirmed,cancelled" doc:"Only orders of this state"`
}

type listOutput struct {
	Body struct {
		Orders []orderView `json:"orders" nullable:"false"`
		Next   string      `json:"next,omitempty" doc:"The after of the next page; absent on the last one"`
	}
}

func (r routes) list(ctx context.Context, in *listInput) (*listOutput, error) {
	owner, err := owner(ctx, identity.Principal.SeesAll)
	if err != nil {
		return nil, err
	}
	// One more than asked for tells whether there is another page.
	found, err := r.orders.List(ctx, order.Filter{Owner: owner, State: order.State(in.State), After: in.After, Limit: in.Limit + 1})
	if err != nil {
		return nil, err
	}
	out := &listOutput{}
	if len(found) > in.Limit {
		found = found[:in.Limit]
		out.Body.Next = found[in.Limit-1].ID
	}
	out.Body.Orders = make([]orderView, len(found))
	for i, o := range found {
		out.Body.Orders[i] = viewOf(o)
	}
	return out, nil
}

type productsOutput struct {
	Body struct {
		Products []productView `json:"products" nullable:"false"`
	}
}

func (r routes) products(ctx context.Context, _ *struct{}) (*productsOutput, error) {
	found, err := r.orders.Products(ctx)
	if err != nil {
		return nil, err
	}
	out := &productsOutput{}
	out.Body.Products = make([]productView, len(found))
	for i, p := range found {
		out.Body.Products[i] = productView{SKU: p.SKU, Name: p.Name, Price: p.Price}
	}
	return out, nil
}

type customersOutput struct {
	Body struct {
		Customers []customerView `json:"customers" nullable:"false"`
	}
}

func (r routes) customers(ctx context.Context, _ *struct{}) (*customersOutput, error) {
	if p, asked := identity.From(ctx); asked && !p.SeesAll() {
		return nil, huma.Error403Forbidden("the customers are for those to see who may see all of them")
	}
	found, err := r.orders.Customers(ctx)
	if err != nil {
		return nil, err
	}
	out := &customersOutput{}
	out.Body.Customers = make([]customerView, len(found))
	for i, c := range found {
		out.Body.Customers[i] = customerView(c)
	}
	return out, nil
}
