// Package access owns who may call the gateway and how often: it checks the
// tokens of clients, says for whom each request is, and limits requests and
// streams of each principal.
package access

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"pavane/shared/httpapi"
	"pavane/shared/identity"
)

// Config says who may call. Without a JWKSFile everybody may, and everything is
// everybody's.
type Config struct {
	JWKSFile      string // the public keys of tokens
	Issuer        string // of tokens
	Audience      string // of tokens
	OperatorToken string // who shows it is an operator; empty: nobody

	Rate    float64 // requests per second of one principal; 0: any number
	Burst   int     // as many at once; 0: those of two seconds
	Streams int     // that one principal may hold open; 0: any number

	Logger *slog.Logger // required
	// Again is how old what is known of the JWKSFile may be; 0 means 1 s.
	Again time.Duration
}

// Access lets requests pass, or not. It is safe for concurrent use.
type Access struct {
	config  Config
	tokens  *tokens // nil: no token is asked for
	rates   *rates
	streams *streams
}

// Open returns the access of a config. An error says what is wrong with it, or
// with the file of keys.
func Open(c Config) (*Access, error) {
	if c.Rate < 0 || math.IsNaN(c.Rate) || math.IsInf(c.Rate, 0) || c.Burst < 0 || c.Streams < 0 {
		return nil, errors.New("limits are numbers from 0 on")
	}
	if c.Burst == 0 {
		c.Burst = max(1, int(math.Ceil(2*min(c.Rate, math.MaxInt32))))
	}
	if c.Again == 0 {
		c.Again = lookAgain
	}
	a := &Access{config: c, rates: newRates(c.Rate, c.Burst), streams: &streams{most: c.Streams, open: map[string]int{}}}
	if c.JWKSFile == "" {
		return a, nil
	}
	if c.Issuer == "" || c.Audience == "" {
		return nil, errors.New("tokens are checked for issuer and audience: name both")
	}
	keys, err := openKeyFile(c.JWKSFile, c.Again, c.Logger)
	if err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	a.tokens = newTokens(keys, c.Issuer, c.Audience)
	return a, nil
}

// Checked tells whether callers must show who they are.
func (a *Access) Checked() bool { return a.tokens != nil }

// Public tells whether a path is open to everybody, at any rate: what says how
// the process is, what says how to call it, and the page, which is a program
// without data.
func Public(path string) bool {
	switch path {
	case "/livez", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json", "/", "/docs":
		return true
	}
	return strings.HasPrefix(path, "/page/")
}

// Guard is the [httpapi.Guard] of the gateway: it puts the principal into the
// context, or answers 401 or 429.
func (a *Access) Guard(w http.ResponseWriter, r *http.Request) *http.Request {
	if Public(r.URL.Path) {
		return r
	}
	p, shown, err := a.principal(r)
	if err == nil {
		r = r.WithContext(identity.With(r.Context(), p))
	}
	// A caller whose token is wrong is counted by where it comes from.
	if wait := a.rates.take(who(r), time.Now()); wait > 0 {
		tooMany(w, r, wait, fmt.Sprintf("more than %g requests per second", a.config.Rate))
		return nil
	}
	if err != nil {
		httpapi.Unauthorized(w, r, shown, err.Error())
		return nil
	}
	return r
}

// principal says for whom a request is. Shown tells whether a token was there.
func (a *Access) principal(r *http.Request) (p identity.Principal, shown bool, err error) {
	operator := httpapi.Operator(r, a.config.OperatorToken) == nil
	switch {
	case a.tokens == nil:
		p.Scopes = []string{identity.ScopeEveryone}
	case operator && r.Header.Get("Authorization") == "":
	default:
		token, err := httpapi.Bearer(r)
		if err != nil {
			return p, false, err
		}
		if p, err = a.tokens.check(token); err != nil {
			return identity.Principal{}, true, err
		}
	}
	if operator {
		p.Scopes = append(p.Scopes, identity.ScopeOperate)
	}
	return p, false, nil
}

// Stream counts a stream of the request's principal until leave is called. When
// it is one too many it answers 429, and ok is false.
func (a *Access) Stream(w http.ResponseWriter, r *http.Request) (leave func(), ok bool) {
	leave, ok = a.streams.enter(who(r))
	if !ok {
		tooMany(w, r, time.Second, fmt.Sprintf("more than %d streams at once; close one", a.config.Streams))
	}
	return leave, ok
}

func tooMany(w http.ResponseWriter, r *http.Request, wait time.Duration, what string) {
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
	httpapi.WriteProblem(w, r, http.StatusTooManyRequests, "too much for one caller: "+what)
}
