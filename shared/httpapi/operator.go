package httpapi

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"pavane/shared/identity"
)

// OperatorHeader is where an operator shows the token. A page of another site
// cannot set it without being asked first, and nobody answers that question.
const OperatorHeader = "X-Pavane-Operator"

// Operator returns why the request is not an operator's: it does not show the
// token, or a page of another site sends it. With an empty token nobody is one.
// The reason may go to the caller.
func Operator(r *http.Request, token string) error {
	if token == "" {
		return errors.New("nobody can do this over HTTP here: no operator's token is configured")
	}
	if subtle.ConstantTimeCompare([]byte(r.Header.Get(OperatorHeader)), []byte(token)) != 1 {
		return fmt.Errorf("this is for operators: show the operator's token in %s", OperatorHeader)
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return fmt.Errorf("this is not taken from pages of other sites: %w", err)
	}
	return nil
}

// ForOperators is the middleware of operations that are for operators alone: a
// principal with the scope for it, or who shows the token. Anybody else gets a
// 403.
func (s *Server) ForOperators(token string) huma.Middlewares {
	return huma.Middlewares{func(hc huma.Context, next func(huma.Context)) {
		r, _ := humago.Unwrap(hc)
		if p, _ := identity.From(hc.Context()); p.Has(identity.ScopeOperate) {
			next(hc)
			return
		}
		if err := Operator(r, token); err != nil {
			huma.WriteErr(s.api, hc, http.StatusForbidden, err.Error()) //nolint:errcheck // the client is gone
			return
		}
		next(hc)
	}}
}

// For is the middleware of operations that are for some principals alone; the
// others get a 403 with the refusal.
func (s *Server) For(allowed func(identity.Principal) bool, refusal string) huma.Middlewares {
	return huma.Middlewares{func(hc huma.Context, next func(huma.Context)) {
		if p, _ := identity.From(hc.Context()); !allowed(p) {
			huma.WriteErr(s.api, hc, http.StatusForbidden, refusal) //nolint:errcheck // the client is gone
			return
		}
		next(hc)
	}}
}
