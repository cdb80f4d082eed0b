package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"pavane/order-svc/internal/order"
	"pavane/shared/identity"
)

// owner says whose orders are there for a request: everybody's where nobody asks
// for whom it is and for principals that all of them are for, else the subject's.
func owner(ctx context.Context, all func(identity.Principal) bool) (order.Owner, error) {
	p, asked := identity.From(ctx)
	switch {
	case !asked || all(p):
		return order.Anybody, nil
	case p.Subject == "":
		return order.Anybody, huma.Error403Forbidden("the request is for nobody, and orders belong to somebody")
	}
	return order.Owner(p.Subject), nil
}

// customerOf is who orders: who the request is for, unless that one may act for
// others and names one.
func customerOf(ctx context.Context, named string) (string, error) {
	of, err := owner(ctx, identity.Principal.ActsForAll)
	if err != nil {
		return "", err
	}
	p, _ := identity.From(ctx)
	switch {
	case named == "":
		return p.Subject, nil
	case of == order.Anybody || named == string(of):
		return named, nil
	}
	return "", huma.Error403Forbidden("customer_id names another than the request is for: leave it out")
}
