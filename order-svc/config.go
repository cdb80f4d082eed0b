package main

import (
	"fmt"
	"time"

	"pavane/shared/service"
)

// The bounds of a deadline: below, even a healthy saga would miss it; above, an
// order that nobody decides holds stock and money for days.
const (
	minDeadline = 100 * time.Millisecond
	maxDeadline = 24 * time.Hour
)

// config is everything that can be told to the order service from outside.
type config struct {
	service.Config
	OrderDeadline time.Duration `default:"60s" desc:"how long an order may stay undecided before it is cancelled; 100ms to 24h"`
	Seed          string        `desc:"demo: begin with the demo's products, customers, wallets and stock; empty: with nothing"`
}

// Validate refuses values that could only fail later.
func (c config) Validate() error {
	if c.OrderDeadline < minDeadline || c.OrderDeadline > maxDeadline {
		return fmt.Errorf("PAVANE_ORDER_DEADLINE=%s: choose 100ms to 24h", c.OrderDeadline)
	}
	if c.Seed != "" && c.Seed != "demo" {
		return fmt.Errorf("PAVANE_SEED=%q: set it to demo or leave it empty", c.Seed)
	}
	return nil
}
