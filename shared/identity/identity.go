// Package identity owns who a request is made for, and the tokens by which the
// services of one system know each other's calls: short-lived, for one caller,
// one callee and one customer, signed with a key that all services share.
//
// With a context it says for whom a request is; who checks the request puts it
// there ([pavane/shared/httpapi.Server.ForServices]).
package identity

import (
	"context"
	"slices"
	"time"
)

// The scopes.
const (
	ScopeRead    = "pavane:read"    // sees what is everybody's, and what is another's
	ScopeOperate = "pavane:operate" // acts for others and on the system; sees as much

	// ScopeEveryone is of calls of a gateway that does not ask who its callers are:
	// whatever belongs to a customer is open to them. No token from outside has it.
	ScopeEveryone = "pavane:everyone"
)

// Principal is for whom a request is made. The zero value may do nothing.
type Principal struct {
	Caller  string    // the service whose call it is; empty: no service's
	Subject string    // the customer; empty: nobody in particular
	Scopes  []string  // what is allowed beyond the subject's own
	Expires time.Time // when it ends to be so; zero: never
}

// Has tells whether the principal has a scope.
func (p Principal) Has(scope string) bool { return slices.Contains(p.Scopes, scope) }

// SeesAll tells whether it may see what belongs to others.
func (p Principal) SeesAll() bool {
	return p.Has(ScopeRead) || p.Has(ScopeOperate) || p.Has(ScopeEveryone)
}

// ActsForAll tells whether it may change what belongs to others.
func (p Principal) ActsForAll() bool { return p.Has(ScopeOperate) || p.Has(ScopeEveryone) }

type contextKey struct{}

// With returns a context of a request for p.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// From returns for whom the request of ctx is. ok is false where nobody asked:
// in a service without a key, and outside a request.
func From(ctx context.Context) (p Principal, ok bool) {
	p, ok = ctx.Value(contextKey{}).(Principal)
	return p, ok
}
