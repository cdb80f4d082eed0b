package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	"pavane/internal/await"
)

// What the demo is seeded with.
const (
	wealthy = "cust-01"
	poor    = "cust-20"   // has an empty wallet
	soldOut = "gift-card" // has no stock
)

// gateway calls a gateway as a customer's program would.
type gateway struct {
	base string
	http *http.Client
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) String() string { return fmt.Sprintf("%d %.400s", a.status, a.body) }

// order is what the gateway tells of one.
type order struct {
	ID      string `json:"order_id"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Effects struct {
		Captured, Voided, Shipped, Released bool
	} `json:"effects"`
}

// end is "confirmed" or "cancelled customer".
func (o order) end() string { return strings.TrimSpace(o.State + " " + o.Reason) }

func (u *up) gateway() *gateway {
	u.t.Helper()
	g := &gateway{base: u.state().Gateway, http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	u.t.Cleanup(g.http.CloseIdleConnections)
	return g
}

// do sends a request; headers come in pairs. Every status is an answer.
func (g *gateway) do(method, route, body string, headers ...string) (a answer, err error) {
	req, err := http.NewRequest(method, g.base+route, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := g.http.Do(req)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(b)}, err
}

func body(customer, sku string) string {
	return fmt.Sprintf(`{"customer_id":%q,"items":[{"sku":%q,"quantity":1}]}`, customer, sku)
}

// transient tells whether a request with an idempotency key is to be sent again.
func transient(a answer, err error) bool {
	return err != nil || a.status == http.StatusBadGateway || a.status == http.StatusServiceUnavailable
}

// insist sends a request again until it gets an answer that counts.
func (g *gateway) insist(limit time.Duration, method, route, body string, headers ...string) (answer, error) {
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	expired := time.NewTimer(limit)
	defer expired.Stop()
	for {
		a, err := g.do(method, route, body, headers...)
		if !transient(a, err) {
			return a, nil
		}
		select {
		case <-retry.C:
		case <-expired.C:
			return a, fmt.Errorf("%s %s: no answer within %s: %s %w", method, route, limit, a, err)
		}
	}
}

// place places an order under a key and returns its id. One that is cancelled
// when the key comes again is placed, too.
func (g *gateway) place(limit time.Duration, key, body string) (string, error) {
	a, err := g.insist(limit, http.MethodPost, "/v1/orders", body, "Idempotency-Key", key)
	if err != nil {
		return "", err
	}
	if a.header.Get("Location") == "" {
		return "", fmt.Errorf("place an order: %s", a)
	}
	return path.Base(a.header.Get("Location")), nil
}

// ended waits for the decision of an order.
func (g *gateway) ended(limit time.Duration, id string) (o order, err error) {
	for deadline := time.Now().Add(limit); ; {
		a, err := g.insist(time.Until(deadline), http.MethodGet, "/v1/orders/"+id, "")
		if err != nil {
			return o, err
		}
		if a.status != http.StatusOK {
			return o, fmt.Errorf("order %s: %s", id, a)
		}
		if err := json.Unmarshal([]byte(a.body), &o); err != nil {
			return o, err
		}
		if o.State != "placed" {
			return o, nil
		}
		if time.Now().After(deadline) {
			return o, fmt.Errorf("order %s is %s after %s", id, o.State, limit)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// fulfil places an order and waits until it is paid and shipped.
func (g *gateway) fulfil(t testing.TB, limit time.Duration, key string) order {
	t.Helper()
	id, err := g.place(limit, key, body(wealthy, "tea-green"))
	must(t, err)
	var o order
	await.True(t, limit, "order "+id+" is captured and shipped", func() bool {
		o, err = g.ended(limit, id)
		must(t, err)
		return o.Effects.Captured && o.Effects.Shipped
	})
	return o
}
