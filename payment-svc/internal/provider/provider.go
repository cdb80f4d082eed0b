// Package provider owns the calls to the payment provider: card charges by HTTP,
// each addressed by a key that this side chose, so that a request may be repeated
// and its outcome be asked for. Every call is bounded in time and in size, and a
// circuit breaker keeps calls away from a provider that does not answer.
package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

const (
	breakAfter   = 5                // failures in a row
	maxBreak     = time.Second      // between two trials of a provider that fails; less where calls are to be short
	maxAnswer    = 1 << 20          // bytes
	maxPause     = 30 * time.Second // to connect, to wait in the pool
	maxIdleConns = 64
)

// Config says where the provider is.
type Config struct {
	URL       string        `desc:"http(s) URL of the card provider; empty: no cards are taken, and orders paid by card are declined"`
	Key       string        `secret:"true" desc:"key that the provider knows this shop by; empty: none"`
	Timeout   time.Duration `default:"5s" desc:"how long one call to the provider may take; then its outcome is unknown and asked for"`
	Reconcile time.Duration `default:"1m" desc:"how often the provider's list of charges is compared with ours; 0s: never"`
}

// Validate refuses an address that nothing could be reached at.
func (c Config) Validate() error {
	u, err := url.Parse(c.URL)
	switch {
	case c.URL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https"):
		return fmt.Errorf("URL %q: want http://host:port or https://host", c.URL)
	case c.Timeout < 10*time.Millisecond || c.Timeout > time.Minute:
		return fmt.Errorf("TIMEOUT %s: choose 10ms to 1m", c.Timeout)
	case c.Reconcile < 0:
		return fmt.Errorf("RECONCILE %s: choose 0s or more", c.Reconcile)
	}
	return nil
}

// State is what became of a charge at the provider.
type State string

// The states of a charge. None is that of a key the provider does not know.
const (
	None     State = "none"
	Held     State = "held"
	Refused  State = "refused"
	Captured State = "captured"
	Voided   State = "voided"
)

// Charge is one charge as the provider shows it.
type Charge struct {
	Key       string `json:"key"`
	Reference string `json:"reference"` // the order
	State     State  `json:"state"`
	Amount    int64  `json:"amount"` // minor units
	Currency  string `json:"currency"`
	Reason    string `json:"reason"`  // for people: why it was refused
	Changed   int64  `json:"changed"` // grows with every change of any charge
}

// Intent is what is to be held on a card.
type Intent struct {
	Key       string `json:"key"`
	Reference string `json:"reference"` // the order
	Token     string `json:"token"`     // what the provider calls the card
	Amount    int64  `json:"amount"`    // minor units
	Currency  string `json:"currency"`
}

// errResting is the error of a call that was not made.
var errResting = errors.New("the provider failed several times in a row; it is left alone for a moment")

// failure is the error of a call.
type failure struct {
	op      string
	certain bool // the provider surely did nothing
	err     error
}

func (f *failure) Error() string { return "provider: " + f.op + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Certain tells of an error of a call that the provider has surely done nothing
// on it. After any other error the outcome is unknown.
func Certain(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.certain
}

// Client calls one provider. It may be used concurrently.
type Client struct {
	base, key string
	timeout   time.Duration
	http      *http.Client
	breaker   circuitbreaker.CircuitBreaker[any]
}

// New returns a client. It connects to nothing.
func New(c Config) *Client {
	return &Client{
		base: strings.TrimSuffix(c.URL, "/"), key: c.Key, timeout: c.Timeout,
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: min(c.Timeout, maxPause)}).DialContext,
				TLSHandshakeTimeout: min(c.Timeout, maxPause), MaxIdleConnsPerHost: maxIdleConns, IdleConnTimeout: maxPause,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		breaker: circuitbreaker.NewBuilder[any]().WithFailureThreshold(breakAfter).WithSuccessThreshold(1).WithDelay(min(maxBreak, c.Timeout)).Build(),
	}
}

// Close gives idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Room is how many calls make sense now, at most limit: none while the provider
// is left alone, one to try it again.
func (c *Client) Room(limit int) int {
	switch {
	case c.breaker.IsClosed():
		return limit
	case c.breaker.RemainingDelay() > 0:
		return 0
	default:
		return min(1, limit)
	}
}

// Authorize holds an amount on a card, or is refused, which is no error. Made
// again under the same key it changes nothing and returns the charge as it is.
func (c *Client) Authorize(ctx context.Context, in Intent) (Charge, error) {
	got, err := c.charge(ctx, call{op: "authorize", method: http.MethodPost, path: "/v1/charges", key: in.Key, once: in.Key + ":authorize", body: in})
	if err == nil && (got.State == Held || got.State == Captured) && (got.Amount != in.Amount || got.Currency != in.Currency) {
		err = &failure{op: "authorize", err: fmt.Errorf("%d %s are held for %s, %d %s were asked for", got.Amount, got.Currency, in.Reference, in.Amount, in.Currency)}
	}
	return got, err
}

// Capture takes what is held under a key. A charge in another state is returned
// as it is.
func (c *Client) Capture(ctx context.Context, key string) (Charge, error) {
	return c.charge(ctx, call{op: "capture", method: http.MethodPost, path: path(key) + "/capture", key: key, once: key + ":capture"})
}

// Void gives back what is held under a key. Under a key that the provider does
// not know it makes sure that nothing ever will be held. A charge in another
// state is returned as it is.
func (c *Client) Void(ctx context.Context, key string) (Charge, error) {
	return c.charge(ctx, call{op: "void", method: http.MethodPost, path: path(key) + "/void", key: key, once: key + ":void"})
}

// Find returns the charge under a key, in state None when there is none.
func (c *Client) Find(ctx context.Context, key string) (Charge, error) {
	return c.charge(ctx, call{op: "find", method: http.MethodGet, path: path(key), key: key, absent: true})
}

// Changes returns charges that changed after a cursor, oldest change first, and
// the cursor behind them; both as before when nothing did.
func (c *Client) Changes(ctx context.Context, after int64, limit int) (changed []Charge, next int64, err error) {
	var page struct {
		Charges []Charge `json:"charges"`
		Next    int64    `json:"next"`
	}
	status, err := c.do(ctx, call{op: "list", method: http.MethodGet, path: fmt.Sprintf("/v1/charges?after=%d&limit=%d", after, limit)}, &page)
	if err == nil && (status != http.StatusOK || page.Next < after) {
		err = &failure{op: "list", certain: true, err: fmt.Errorf("answered %d with the cursor %d after %d", status, page.Next, after)}
	}
	return page.Charges, page.Next, err
}

func path(key string) string { return "/v1/charges/" + url.PathEscape(key) }

// call is one request.
type call struct {
	op, method, path string
	key              string // of the charge
	once             string // the idempotency key; empty: the call changes nothing
	body             any    // of a call that changes something
	absent           bool   // 404 is an answer
}

// charge makes a call that is answered with a charge.
func (c *Client) charge(ctx context.Context, r call) (Charge, error) {
	var got Charge
	status, err := c.do(ctx, r, &got)
	if err != nil {
		return Charge{}, err
	}
	if status == http.StatusNotFound && r.absent {
		return Charge{Key: r.key, State: None}, nil
	}
	switch got.State {
	case Held, Refused, Captured, Voided:
	default:
		return Charge{}, &failure{op: r.op, err: fmt.Errorf("answered %d with the state %.40q", status, got.State)}
	}
	// A provider that answers twice can have its second answer taken for that to
	// the next request on the connection.
	if got.Key != r.key {
		return Charge{}, &failure{op: r.op, err: fmt.Errorf("asked for %s, answered about %.80q", r.key, got.Key)}
	}
	return got, nil
}

// do makes a call, if the breaker lets it, and decodes the answer into into.
func (c *Client) do(ctx context.Context, r call, into any) (status int, err error) {
	if !c.breaker.TryAcquirePermit() {
		return 0, &failure{op: r.op, certain: true, err: errResting}
	}
	defer func() {
		if err == nil || status >= 400 && status < 500 && status != http.StatusTooManyRequests {
			c.breaker.RecordSuccess()
		} else {
			c.breaker.RecordFailure()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := c.request(ctx, r)
	if err != nil {
		return 0, &failure{op: r.op, certain: true, err: err}
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, &failure{op: r.op, certain: refusedConnection(err), err: err}
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	return res.StatusCode, decode(r, res, into)
}

func (c *Client) request(ctx context.Context, r call) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, nil)
	if err != nil {
		return nil, err
	}
	if r.once != "" {
		body, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		// Without GetBody the transport does not send the request again by itself on
		// a lost connection: its outcome is to be asked for first.
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", strconv.Quote(r.once))
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	return req, nil
}

// decode reads an answer. 402 (refused) and 409 (in another state) carry the
// charge; other refusals of a request are certain, all else leaves it open.
func decode(r call, res *http.Response, into any) error {
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return &failure{op: r.op, err: err}
	}
	switch s := res.StatusCode; {
	case s == http.StatusNotFound && r.absent:
		return nil
	case s == http.StatusOK, s == http.StatusCreated, s == http.StatusPaymentRequired, s == http.StatusConflict:
		if err := json.Unmarshal(text, into); err != nil {
			return &failure{op: r.op, err: fmt.Errorf("answered %d with what cannot be read: %w", s, err)}
		}
		return nil
	default:
		return &failure{op: r.op, certain: s >= 400 && s < 500, err: fmt.Errorf("answered %d %.200s", s, strings.Join(strings.Fields(string(text)), " "))}
	}
}

// refusedConnection tells whether a request never left, because there was nobody
// to connect to.
func refusedConnection(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
