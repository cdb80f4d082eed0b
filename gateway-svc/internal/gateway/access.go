package gateway

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"pavane/gateway-svc/internal/access"
	"pavane/shared/httpapi"
	"pavane/shared/identity"
)

// The names of the security schemes in the OpenAPI document.
const (
	bearerScheme   = "bearer"
	operatorScheme = "operator"
)

// forReaders is why a caller is refused what is everybody's.
const forReaders = "this shows what belongs to others, too: it takes a token with the scope " + identity.ScopeRead + " or " + identity.ScopeOperate

// registerAccess has every request pass the access, and says in the OpenAPI
// document how to.
func (g *Gateway) registerAccess(s *httpapi.Server) {
	s.Guard(g.config.Access.Guard)
	g.server = s
	s.API().OpenAPI().Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		operatorScheme: {Type: "apiKey", In: "header", Name: httpapi.OperatorHeader, Description: "the operator's token"},
	}
	if g.config.Access.Checked() {
		s.API().OpenAPI().Components.SecuritySchemes[bearerScheme] = &huma.SecurityScheme{
			Type: "http", Scheme: "bearer", BearerFormat: "JWT",
			Description: "Its sub is the customer, who sees own orders alone. The scopes " + identity.ScopeRead + " and " + identity.ScopeOperate + " open those of others.",
		}
	}
}

// customers is an operation for every caller. What belongs to others is not
// there for those who may not see it.
func (g *Gateway) customers(op huma.Operation) huma.Operation { return g.secured(op) }

// readers is an operation for those who may see what belongs to others.
func (g *Gateway) readers(op huma.Operation) huma.Operation {
	op = g.secured(op, identity.ScopeRead)
	op.Middlewares = append(op.Middlewares, g.server.For(identity.Principal.SeesAll, forReaders)...)
	return op
}

// operators is an operation for operators.
func (g *Gateway) operators(op huma.Operation) huma.Operation {
	op = g.secured(op, identity.ScopeOperate)
	if !g.config.Access.Checked() {
		op.Security = []map[string][]string{{operatorScheme: {}}}
	}
	op.Middlewares = append(op.Middlewares, g.server.ForOperators(g.config.OperatorToken)...)
	return op
}

// secured says in the document what a caller must show, and what becomes of one
// who does not.
func (g *Gateway) secured(op huma.Operation, scopes ...string) huma.Operation {
	codes := []int{http.StatusForbidden, http.StatusTooManyRequests}
	if g.config.Access.Checked() {
		codes = append(codes, http.StatusUnauthorized)
		op.Security = []map[string][]string{{bearerScheme: append([]string{}, scopes...)}, {operatorScheme: {}}}
	}
	op.Errors = append(op.Errors, codes...)
	slices.Sort(op.Errors)
	op.Errors = slices.Compact(op.Errors)
	return op
}

// mayRead returns why the caller may not see the order, which others than
// order-svc know of, too: to callers who see their own alone, only order-svc can
// say whose it is. Without its word they see nothing.
func (g *Gateway) mayRead(ctx context.Context, id string) error {
	if p, _ := identity.From(ctx); p.SeesAll() {
		return nil
	}
	_, err := g.upstream.ask(ctx, call{service: orderSvc, path: orderPath(id), repeatable: true})
	return err
}

// openAccess is that of a gateway that is given none: everybody may call.
func openAccess(c Config) *access.Access {
	a, err := access.Open(access.Config{OperatorToken: c.OperatorToken, Logger: c.Logger})
	if err != nil {
		panic(err) // it reads nothing
	}
	return a
}
