package access

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"pavane/shared/contract"
	"pavane/shared/identity"
)

const (
	// leeway is how far the clocks of issuer and gateway may differ.
	leeway = 5 * time.Second
	// maxToken is the size in bytes from which on a token is not looked at.
	maxToken = 8 << 10
)

// tokens checks the tokens of clients.
type tokens struct {
	keys   *keyFile
	parser *jwt.Parser
}

func newTokens(keys *keyFile, issuer, audience string) *tokens {
	return &tokens{keys: keys, parser: jwt.NewParser(
		jwt.WithValidMethods(algorithms()), jwt.WithIssuer(issuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(leeway),
	)}
}

// claims are those of a client's token. Scopes come as one text (RFC 9068), or
// as a list under the name scp, which some issuers use.
type claims struct {
	jwt.RegisteredClaims
	Scope words `json:"scope"`
	Scp   words `json:"scp"`
}

type words []string

// UnmarshalJSON reads words out of a text or a list.
func (w *words) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*w = strings.Fields(text)
		return nil
	}
	return json.Unmarshal(b, (*[]string)(w))
}

// check returns who a token is of. The error may go to the caller: it tells
// nothing of what the token holds.
func (t *tokens) check(token string) (identity.Principal, error) {
	if len(token) > maxToken {
		return identity.Principal{}, errors.New("the token is too long")
	}
	var c claims
	_, err := t.parser.ParseWithClaims(token, &c, func(parsed *jwt.Token) (any, error) {
		kid, _ := parsed.Header["kid"].(string)
		public, ok := t.keys.find(kid, parsed.Method.Alg())
		if !ok {
			return nil, errors.New("no such key")
		}
		return public, nil
	})
	if err != nil {
		return identity.Principal{}, identity.Wrong(err)
	}
	if !contract.IsCustomerID(c.Subject) {
		return identity.Principal{}, errors.New("the token names no customer: its sub must have " + contract.CustomerForm)
	}
	p := identity.Principal{Subject: c.Subject, Expires: c.ExpiresAt.Add(leeway)}
	for _, scope := range []string{identity.ScopeRead, identity.ScopeOperate} {
		if slices.Contains(c.Scope, scope) || slices.Contains(c.Scp, scope) {
			p.Scopes = append(p.Scopes, scope)
		}
	}
	return p, nil
}
