package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"pavane/internal/await"
)

const (
	requestLimit = 30 * time.Second
	retryPause   = 50 * time.Millisecond
)

// Gateway calls a gateway as a customer's program would.
type Gateway struct {
	Base string // http://host:port
	HTTP *http.Client
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// String is the status and the beginning of the body.
func (a Answer) String() string { return fmt.Sprintf("%d %.400s", a.Status, a.Body) }

// Order is what the gateway tells of one.
type Order struct {
	ID      string `json:"order_id"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Effects struct {
		Captured, Voided, Shipped, Released bool
	} `json:"effects"`
}

// End is "confirmed" or "cancelled customer".
func (o Order) End() string { return strings.TrimSpace(o.State + " " + o.Reason) }

// Gateway returns a caller of the demo's gateway, for as long as the test.
func (d *Demo) Gateway() *Gateway {
	d.t.Helper()
	g := &Gateway{Base: d.State().Gateway, HTTP: &http.Client{Timeout: requestLimit, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	d.t.Cleanup(g.HTTP.CloseIdleConnections)
	return g
}

// Do sends a request; headers come in pairs. Every status is an answer.
func (g *Gateway) Do(method, route, body string, headers ...string) (a Answer, err error) {
	req, err := http.NewRequest(method, g.Base+route, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := g.HTTP.Do(req)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return Answer{res.StatusCode, res.Header, string(b)}, err
}

// Body is the JSON of an order of one piece.
func Body(customer, sku string) string {
	return fmt.Sprintf(`{"customer_id":%q,"items":[{"sku":%q,"quantity":1}]}`, customer, sku)
}

// transient tells whether a request with an idempotency key is to be sent again.
func transient(a Answer, err error) bool {
	return err != nil || a.Status == http.StatusBadGateway || a.Status == http.StatusServiceUnavailable || a.Status == http.StatusGatewayTimeout
}

// Insist sends a request again until it gets an answer that counts.
func (g *Gateway) Insist(limit time.Duration, method, route, body string, headers ...string) (Answer, error) {
	retry := time.NewTicker(retryPause)
	defer retry.Stop()
	expired := time.NewTimer(limit)
	defer expired.Stop()
	for {
		a, err := g.Do(method, route, body, headers...)
		if !transient(a, err) {
			return a, nil
		}
		select {
		case <-retry.C:
		case <-expired.C:
			if err == nil {
				err = errors.New(a.String())
			}
			return a, fmt.Errorf("%s %s: no answer that counts within %s: %w", method, route, limit, err)
		}
	}
}

// Place places an order under a key and returns its id. One that is cancelled
// when the key comes again is placed, too.
func (g *Gateway) Place(limit time.Duration, key, body string) (string, error) {
	a, err := g.Insist(limit, http.MethodPost, "/v1/orders", body, "Idempotency-Key", key)
	if err != nil {
		return "", err
	}
	if a.Header.Get("Location") == "" {
		return "", fmt.Errorf("place an order: %s", a)
	}
	return path.Base(a.Header.Get("Location")), nil
}

// Ended waits for the decision of an order.
func (g *Gateway) Ended(limit time.Duration, id string) (o Order, err error) {
	began := time.Now()
	for deadline := began.Add(limit); ; <-time.After(await.Pause(time.Since(began))) {
		a, err := g.Insist(time.Until(deadline), http.MethodGet, "/v1/orders/"+id, "")
		if err != nil {
			return o, err
		}
		if a.Status != http.StatusOK {
			return o, fmt.Errorf("order %s: %s", id, a)
		}
		if err := json.Unmarshal([]byte(a.Body), &o); err != nil {
			return o, err
		}
		if o.State != "placed" {
			return o, nil
		}
		if time.Now().After(deadline) {
			return o, fmt.Errorf("order %s is %s after %s", id, o.State, limit)
		}
	}
}
