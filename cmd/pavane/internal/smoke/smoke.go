// Package smoke owns one run through every path of the saga: each path is placed
// through the gateway, driven to where it must go, and timed. Where a path needs
// a service to be late, the run holds a lock that its consumer needs; nothing is
// left to luck.
package smoke

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"pavane/cmd/pavane/internal/client"
	"pavane/shared/event"
)

// How long one path may take, and in it all effects of an order: far more than
// they need, since the machine may be busy, and what is missing is waited for as
// long.
const (
	pathTime   = time.Minute
	effectTime = 10 * time.Second
)

// fulfilled is an order that went well.
const fulfilled = "confirmed captured shipped"

// Result is what became of one path.
type Result struct {
	Path     string
	Expected string
	Got      string
	OK       bool
	Took     time.Duration
}

// System is what runs.
type System struct {
	Gateway   *client.Client
	Databases map[string]string // their URLs by name, such as orders
}

// runner drives the paths.
type runner struct {
	gateway   *client.Client
	databases map[string]string
}

// path is one way through the saga. do returns what it came to, which must be
// equal to expected.
type path struct {
	name, expected string
	do             func(ctx context.Context, want string) (string, error)
}

// Run runs every path once, one after the other, and tells each result as it
// comes. It returns whether all came to what was expected.
func Run(ctx context.Context, system System, told func(Result)) bool {
	r := &runner{gateway: system.Gateway, databases: system.Databases}
	all := true
	for _, p := range r.paths() {
		begin := time.Now()
		limited, cancel := context.WithTimeout(ctx, pathTime)
		got, err := p.do(limited, p.expected)
		cancel()
		if err != nil {
			got = strings.TrimSpace(got + " " + err.Error())
		}
		res := Result{Path: p.name, Expected: p.expected, Got: got, OK: err == nil && among(p.expected, got), Took: time.Since(begin)}
		all = all && res.OK
		told(res)
	}
	return all
}

const (
	wealthy = "cust-01"
	poor    = "cust-20"   // has an empty wallet
	soldOut = "gift-card" // has no stock
)

func (r *runner) paths() []path { return append(r.walletPaths(), r.cardPaths()...) }

func (r *runner) walletPaths() []path {
	tea := client.Item{SKU: "tea-green", Quantity: 2}
	return []path{
		{"confirmed", fulfilled, func(ctx context.Context, want string) (string, error) {
			return r.end(ctx, want, wealthy, tea, client.Item{SKU: "honey", Quantity: 1})
		}},
		{"out of stock", "cancelled out_of_stock", func(ctx context.Context, want string) (string, error) {
			return r.end(ctx, want, wealthy, tea, client.Item{SKU: soldOut, Quantity: 1})
		}},
		{"payment declined", "cancelled payment_declined released", func(ctx context.Context, want string) (string, error) {
			return r.end(ctx, want, poor, tea)
		}},
		{"cancelled before reservation", "cancelled customer released|cancelled customer voided released", func(ctx context.Context, want string) (string, error) {
			return r.cancelledWhile(ctx, want, mug(), "", "inventory", "payments")
		}},
		{"cancelled before authorisation", "cancelled customer released|cancelled customer voided released", func(ctx context.Context, want string) (string, error) {
			return r.cancelledWhile(ctx, want, mug(), "inventory.reserved", "payments")
		}},
		{"cancelled after authorisation", "cancelled customer voided released", func(ctx context.Context, want string) (string, error) {
			return r.cancelledWhile(ctx, want, mug(), "payment.authorized", "orders")
		}},
		{"cancelled after confirmation", "409, then " + fulfilled, r.cancelledLate},
		{"deadline before authorisation", "cancelled deadline released|cancelled deadline voided released", func(ctx context.Context, want string) (string, error) {
			return r.overdue(ctx, want, "inventory.reserved", "payments")
		}},
		{"deadline after authorisation", "cancelled deadline voided released", func(ctx context.Context, want string) (string, error) {
			return r.overdue(ctx, want, "payment.authorized", "orders")
		}},
		{"same key twice", "the same order, replayed", r.replayed},
		{"same key, other body", "422", r.reused},
		{"bad input", "4xx each, no row anywhere", r.refused},
	}
}

// cardPaths are those of the card provider, who in most of them answers badly.
func (r *runner) cardPaths() []path {
	card := func(token string) []byte {
		return client.CardBody(poor, token, client.Item{SKU: "tea-green", Quantity: 2}) // the wallet is empty
	}
	pays := func(token string) func(context.Context, string) (string, error) {
		return func(ctx context.Context, want string) (string, error) { return r.endOf(ctx, want, card(token)) }
	}
	return []path{
		{"card", fulfilled, pays("tok_ok")},
		{"card refused", "cancelled payment_declined released", pays("tok_refuse")},
		{"card, fails after charging", fulfilled, pays("tok_fail_after_charge")},
		{"card, answer lost", fulfilled, pays("tok_lose_answer")},
		{"card, answered twice", fulfilled, pays("tok_twice")},
		{"card, provider never answers", "cancelled deadline released", r.neverAnswered},
		{"card, cancelled while it is asked", "cancelled customer released", r.cancelledAsking},
		{"card, cancelled after holding", "cancelled customer voided released", func(ctx context.Context, want string) (string, error) {
			return r.cancelledWhile(ctx, want, card("tok_ok"), "payment.authorized", "orders")
		}},
	}
}

func mug() []byte { return client.Body(wealthy, client.Item{SKU: "mug-red", Quantity: 1}) }

// cancelledAsking cancels an order while the provider, who will charge the card a
// while later, has not answered. Whatever comes of it is voided there; the audit
// looks.
func (r *runner) cancelledAsking(ctx context.Context, want string) (string, error) {
	id, err := r.gateway.Place(ctx, event.NewID(), client.CardBody(wealthy, "tok_late", client.Item{SKU: "mug-red", Quantity: 1}))
	if err != nil {
		return "", err
	}
	if err := r.asked(ctx, id); err != nil {
		return "", err
	}
	a, err := r.gateway.Do(ctx, http.MethodPost, "/v1/orders/"+id+"/cancel", nil)
	if err != nil || a.Status != http.StatusOK {
		return "cancel: " + a.Text(), err
	}
	return r.settled(ctx, id, want)
}

// end places an order and waits for its end with all its effects.
func (r *runner) end(ctx context.Context, want, customer string, items ...client.Item) (string, error) {
	return r.endOf(ctx, want, client.Body(customer, items...))
}

func (r *runner) endOf(ctx context.Context, want string, body []byte) (string, error) {
	id, err := r.gateway.Place(ctx, event.NewID(), body)
	if err != nil {
		return "", err
	}
	if o, err := r.gateway.Await(ctx, id, client.Decided); err != nil {
		return words(o), err
	}
	return r.settled(ctx, id, want)
}

// settled waits until the order is as wanted, and says how it is. Effects that
// come and should not are found by the audit.
func (r *runner) settled(ctx context.Context, id, want string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, effectTime)
	defer cancel()
	o, err := r.gateway.Await(ctx, id, func(o client.Order) bool { return among(want, words(o)) })
	return words(o), err
}

// among says whether got is one of the alternatives in want, "this|that": which
// one it is depends on the order in which a consumer sees two topics.
func among(want, got string) bool {
	return slices.Contains(strings.Split(want, "|"), got)
}

// words is "cancelled customer voided released".
func words(o client.Order) string {
	text := o.State
	for _, w := range []struct {
		word string
		is   bool
	}{
		{o.Reason, o.Reason != ""},
		{"captured", o.Effects.Captured},
		{"shipped", o.Effects.Shipped},
		{"voided", o.Effects.Voided},
		{"released", o.Effects.Released},
	} {
		if w.is {
			text += " " + w.word
		}
	}
	return text
}

// cancelledWhile cancels an order while the consumers of some services are held
// back, after the event kind has been published, or at once when it is empty.
func (r *runner) cancelledWhile(ctx context.Context, want string, body []byte, kind string, databases ...string) (string, error) {
	release, err := r.hold(ctx, databases...)
	if err != nil {
		return "", err
	}
	defer release()
	id, err := r.gateway.Place(ctx, event.NewID(), body)
	if err != nil {
		return "", err
	}
	if kind != "" {
		if err := r.published(ctx, id, kind); err != nil {
			return "", err
		}
	}
	a, err := r.gateway.Do(ctx, http.MethodPost, "/v1/orders/"+id+"/cancel", nil)
	if err != nil {
		return "", err
	}
	if a.Status != http.StatusOK {
		return "cancel: " + a.Text(), nil
	}
	release()
	return r.settled(ctx, id, want)
}

func (r *runner) cancelledLate(ctx context.Context, _ string) (string, error) {
	id, err := r.gateway.Place(ctx, event.NewID(), client.Body(wealthy, client.Item{SKU: "mug-blue", Quantity: 1}))
	if err != nil {
		return "", err
	}
	if _, err := r.gateway.Await(ctx, id, client.Decided); err != nil {
		return "", err
	}
	a, err := r.gateway.Do(ctx, http.MethodPost, "/v1/orders/"+id+"/cancel", nil)
	if err != nil {
		return "", err
	}
	end, err := r.settled(ctx, id, fulfilled)
	return fmt.Sprintf("%d, then %s", a.Status, end), err
}

// overdue keeps a consumer back, after the event kind has been published, until
// the deadline has cancelled the order.
func (r *runner) overdue(ctx context.Context, want, kind, database string) (string, error) {
	release, err := r.hold(ctx, database)
	if err != nil {
		return "", err
	}
	defer release()
	id, err := r.gateway.Place(ctx, event.NewID(), client.Body(wealthy, client.Item{SKU: "tray", Quantity: 1}))
	if err != nil {
		return "", err
	}
	if err := r.published(ctx, id, kind); err != nil {
		return "", err
	}
	if o, err := r.expire(ctx, id); err != nil {
		return words(o), err
	}
	release()
	return r.settled(ctx, id, want)
}

// neverAnswered lets the deadline pass while the provider does not answer.
func (r *runner) neverAnswered(ctx context.Context, want string) (string, error) {
	id, err := r.gateway.Place(ctx, event.NewID(), client.CardBody(poor, "tok_never", client.Item{SKU: "tea-green", Quantity: 2}))
	if err != nil {
		return "", err
	}
	if err := r.asked(ctx, id); err != nil {
		return "", err
	}
	if o, err := r.expire(ctx, id); err != nil {
		return words(o), err
	}
	return r.settled(ctx, id, want)
}

// expire has an order's deadline come now, and waits until the order is decided.
func (r *runner) expire(ctx context.Context, id string) (client.Order, error) {
	if err := r.change(ctx, "orders", "the deadline of order "+id, expireSQL, id); err != nil {
		return client.Order{}, err
	}
	return r.gateway.Await(ctx, id, client.Decided)
}

func (r *runner) replayed(ctx context.Context, want string) (string, error) {
	key, body := event.NewID(), client.Body(wealthy, client.Item{SKU: "tin", Quantity: 1})
	first, err := r.gateway.Place(ctx, key, body)
	if err != nil {
		return "", err
	}
	a, err := r.gateway.Do(ctx, http.MethodPost, "/v1/orders", body, "Idempotency-Key", key)
	switch {
	case err != nil:
		return "", err
	case a.OrderID() != first:
		return "another order: " + a.Text(), nil
	case a.Header.Get("Idempotency-Replayed") != "true":
		return "the same order, not marked as replayed", nil
	}
	if _, err := r.settled(ctx, first, fulfilled); err != nil {
		return "", err
	}
	return want, nil
}

func (r *runner) reused(ctx context.Context, _ string) (string, error) {
	key := event.NewID()
	id, err := r.gateway.Place(ctx, key, client.Body(wealthy, client.Item{SKU: "tin", Quantity: 1}))
	if err != nil {
		return "", err
	}
	a, err := r.gateway.Do(ctx, http.MethodPost, "/v1/orders", client.Body(wealthy, client.Item{SKU: "tin", Quantity: 2}), "Idempotency-Key", key)
	if err != nil {
		return "", err
	}
	if _, err := r.settled(ctx, id, fulfilled); err != nil {
		return "", err
	}
	return fmt.Sprint(a.Status), nil
}
