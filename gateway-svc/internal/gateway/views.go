package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"pavane/shared/contract"
)

// partTime is how long a joined answer waits for each of its parts.
const partTime = 1500 * time.Millisecond

// gather collects which parts of a joined answer are missing.
type gather struct {
	wg      sync.WaitGroup
	mu      sync.Mutex
	missing []Missing
}

// part asks for one part beside the others. take reads it and runs alone. A 404
// is an answer: there is nothing yet.
func (ga *gather) part(ctx context.Context, u *upstream, service, path string, take func(body []byte) error) {
	ga.whole(ctx, u, call{service: service, path: path, repeatable: true, try: partTime / 2, all: partTime}, take)
}

// whole is part for any call.
func (ga *gather) whole(ctx context.Context, u *upstream, c call, take func(body []byte) error) {
	ga.wg.Go(func() {
		if c.all > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, c.all)
			defer cancel()
		}
		res, err := u.ask(ctx, c)
		ga.mu.Lock()
		defer ga.mu.Unlock()
		if err == nil {
			err = take(res.body)
		}
		if err != nil && res.status != http.StatusNotFound {
			ga.missing = append(ga.missing, Missing{Service: c.service, Reason: reasonOf(err)})
		}
	})
}

// done waits for all parts and returns what is missing, by name.
func (ga *gather) done() []Missing {
	ga.wg.Wait()
	slices.SortFunc(ga.missing, func(a, b Missing) int { return strings.Compare(a.Service, b.Service) })
	return append([]Missing{}, ga.missing...)
}

// reasonOf is what a client may read of why a part is missing.
func reasonOf(err error) string {
	var p *huma.ErrorModel
	if errors.As(err, &p) {
		return p.Detail
	}
	return err.Error()
}

// full joins what four services hold of an order. Only an order that order-svc
// knows not to exist is not found.
func (g *Gateway) full(ctx context.Context, id string) (*FullOrder, error) {
	if err := g.mayRead(ctx, id); err != nil {
		return nil, err
	}
	out := &FullOrder{Notifications: []doc[Notification]{}, Webhooks: []doc[Notification]{}}
	ga := &gather{}
	var notFound error
	ga.wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, partTime)
		defer cancel()
		res, err := g.upstream.ask(ctx, call{service: orderSvc, path: orderPath(id), repeatable: true, try: partTime / 2})
		ga.mu.Lock()
		defer ga.mu.Unlock()
		switch {
		case err == nil:
			out.Order, err = pointer[Order](orderSvc, res.body)
		case res.status >= 400 && res.status < 500:
			notFound = err
		}
		if err != nil {
			ga.missing = append(ga.missing, Missing{Service: orderSvc, Reason: reasonOf(err)})
		}
	})
	ga.part(ctx, g.upstream, paymentSvc, "/v1/payments/"+id, func(body []byte) (err error) {
		out.Payment, err = pointer[Payment](paymentSvc, body)
		return err
	})
	ga.part(ctx, g.upstream, inventorySvc, "/v1/reservations/"+id, func(body []byte) (err error) {
		out.Reservation, err = pointer[Reservation](inventorySvc, body)
		return err
	})
	ga.part(ctx, g.upstream, notificationSvc, "/v1/notifications/"+id, func(body []byte) error {
		list, err := parse[struct {
			Notifications, Webhooks []json.RawMessage
		}](notificationSvc, body)
		for _, n := range list.value.Notifications {
			out.Notifications = append(out.Notifications, doc[Notification]{raw: n})
		}
		for _, w := range list.value.Webhooks {
			out.Webhooks = append(out.Webhooks, doc[Notification]{raw: w})
		}
		return err
	})
	out.Missing = ga.done()
	return out, notFound
}

func pointer[T any](service string, body []byte) (*doc[T], error) {
	d, err := parse[T](service, body)
	if err != nil {
		return nil, err
	}
	return &d, nil
}

// Stock is what there is of a product.
type Stock struct {
	Available int64 `json:"available"`
	Reserved  int64 `json:"reserved"`
	Sold      int64 `json:"sold"`
}

type product struct {
	SKU   string         `json:"sku"`
	Name  string         `json:"name"`
	Price contract.Money `json:"price"`
	Stock *Stock         `json:"stock" doc:"null when inventory-svc is missing or keeps none of it"`
}

type productsOutput struct {
	Body struct {
		Products []product `json:"products" nullable:"false"`
		Missing  []Missing `json:"missing" nullable:"false"`
	}
}

type stockList struct {
	Stock []struct {
		SKU string `json:"sku"`
		Stock
	} `json:"stock"`
}

// products joins the catalogue with the stock. Without the catalogue there is
// nothing to join to.
func (g *Gateway) products(ctx context.Context, _ *struct{}) (*productsOutput, error) {
	stock := map[string]*Stock{}
	ga := &gather{}
	ga.part(ctx, g.upstream, inventorySvc, "/v1/stock", func(body []byte) error {
		list, err := parse[stockList](inventorySvc, body)
		for _, s := range list.value.Stock {
			stock[s.SKU] = &s.Stock
		}
		return err
	})
	out := &productsOutput{}
	res, err := g.upstream.ask(ctx, call{service: orderSvc, path: "/v1/products", repeatable: true})
	out.Body.Missing = ga.done()
	if err != nil {
		return nil, err
	}
	catalogue, err := parse[struct {
		Products []product `json:"products"`
	}](orderSvc, res.body)
	if err != nil {
		return nil, err
	}
	out.Body.Products = append([]product{}, catalogue.value.Products...)
	for i, p := range out.Body.Products {
		out.Body.Products[i].Stock = stock[p.SKU]
	}
	return out, nil
}
