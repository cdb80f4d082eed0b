package e2e_test

import (
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/internal/demo"
)

// What the demo is seeded with.
const (
	wealthy = "cust-01"
	poor    = "cust-20"   // has an empty wallet
	soldOut = "gift-card" // has no stock
)

// gateway calls a gateway, and fails the test that asks more of it.
type gateway struct{ *demo.Gateway }

func (u *up) gateway() gateway { return gateway{u.Gateway()} }

func body(customer, sku string) string { return demo.Body(customer, sku) }

// fulfil places an order and waits until it is paid and shipped.
func (g gateway) fulfil(t testing.TB, limit time.Duration, key string) demo.Order {
	t.Helper()
	id, err := g.Place(limit, key, body(wealthy, "tea-green"))
	must(t, err)
	var o demo.Order
	await.True(t, limit, "order "+id+" is captured and shipped", func() bool {
		o, err = g.Ended(limit, id)
		must(t, err)
		return o.Effects.Captured && o.Effects.Shipped
	})
	return o
}
