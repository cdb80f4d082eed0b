// Package client owns the tool's calls to the gateway: it places orders as a
// customer's program would, through the one public entrance.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"
)

// poll is the pause between two looks at an order.
const poll = 15 * time.Millisecond

// timeout is how long one request may take.
const timeout = 15 * time.Second

// Client calls one gateway.
type Client struct {
	base  string
	http  *http.Client
	token func() (string, error) // nil: none is shown
}

// New returns a client of the gateway at base, "http://127.0.0.1:8080".
func New(base string) *Client {
	return &Client{base: strings.TrimSuffix(base, "/"), http: &http.Client{Timeout: timeout}}
}

// With has the client show a token with each request, a new one each time.
func (c *Client) With(token func() (string, error)) *Client {
	return &Client{base: c.base, http: c.http, token: token}
}

// Item is one line of an order.
type Item struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

// Order is what the gateway says of an order, as far as the tool looks at it.
type Order struct {
	ID      string `json:"order_id"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Effects struct {
		Captured bool `json:"captured"`
		Voided   bool `json:"voided"`
		Shipped  bool `json:"shipped"`
		Released bool `json:"released"`
	} `json:"effects"`
}

// Answer is what came back: the status, the headers, the body.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Text is the body on one line, cut to what fits into a message.
func (a Answer) Text() string {
	text := strings.Join(strings.Fields(string(a.Body)), " ")
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return fmt.Sprintf("%d %s", a.Status, text)
}

// OrderID is the order that the answer is about: from Location, else from the body.
func (a Answer) OrderID() string {
	if l := a.Header.Get("Location"); l != "" {
		return path.Base(l)
	}
	var o Order
	json.Unmarshal(a.Body, &o) //nolint:errcheck // then there is no id
	return o.ID
}

// Do sends a request; the headers come in pairs. Any status is an answer, not an
// error.
func (c *Client) Do(ctx context.Context, method, route string, body []byte, headers ...string) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+route, bytes.NewReader(body))
	if err != nil {
		return Answer{}, fmt.Errorf("gateway: %w", err)
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != nil {
		token, err := c.token()
		if err != nil {
			return Answer{}, fmt.Errorf("gateway: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		return Answer{}, fmt.Errorf("gateway: %w", err)
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return Answer{}, fmt.Errorf("gateway: %s %s: %w", method, route, err)
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Body: b}, nil
}

// Body is the JSON of an order to place.
func Body(customer string, items ...Item) []byte {
	b, err := json.Marshal(map[string]any{"customer_id": customer, "items": items})
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}

// CardBody is [Body] for an order paid by the card of a token.
func CardBody(customer, token string, items ...Item) []byte {
	b, err := json.Marshal(map[string]any{"customer_id": customer, "items": items, "payment_method": "card", "card_token": token})
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}

// Place places an order under an idempotency key and returns its id.
func (c *Client) Place(ctx context.Context, key string, body []byte) (string, error) {
	a, err := c.Do(ctx, http.MethodPost, "/v1/orders", body, "Idempotency-Key", key)
	if err != nil {
		return "", err
	}
	if id := a.OrderID(); a.Status < 300 && id != "" {
		return id, nil
	}
	return "", fmt.Errorf("gateway: place an order: %s", a.Text())
}

// Get asks for an order.
func (c *Client) Get(ctx context.Context, id string) (Order, error) {
	var o Order
	a, err := c.Do(ctx, http.MethodGet, "/v1/orders/"+id, nil)
	if err != nil {
		return o, err
	}
	if a.Status != http.StatusOK {
		return o, fmt.Errorf("gateway: order %s: %s", id, a.Text())
	}
	if err := json.Unmarshal(a.Body, &o); err != nil {
		return o, fmt.Errorf("gateway: order %s: %w", id, err)
	}
	return o, nil
}

// Await polls the order until ok is true of it, and returns it as it was last
// seen together with an error when ctx ends first. Failing requests are made again.
func (c *Client) Await(ctx context.Context, id string, ok func(Order) bool) (Order, error) {
	var last Order
	var fault error
	seen := time.Now()
	for {
		o, err := c.Get(ctx, id)
		if err == nil {
			last, seen = o, time.Now()
			if ok(o) {
				return o, nil
			}
		}
		if ctx.Err() == nil {
			fault = err
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return last, errors.Join(fmt.Errorf("order %s is %s %s and did not go on (seen %s ago): %w", id, last.State, last.Reason,
				time.Since(seen).Round(time.Millisecond), ctx.Err()), fault)
		}
	}
}

// Decided is true of an order that is confirmed or cancelled.
func Decided(o Order) bool { return o.State != "" && o.State != "placed" }
