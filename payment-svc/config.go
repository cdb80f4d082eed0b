package main

import (
	"fmt"

	"pavane/payment-svc/internal/provider"
	"pavane/shared/service"
)

// Config is what payment-svc reads from the environment.
type Config struct {
	service.Config

	Seed string `desc:"demo: begin with the demo's products, customers, wallets and stock; empty: with nothing"`

	Provider provider.Config
}

// Validate refuses a seed that does not exist.
func (c Config) Validate() error {
	if c.Seed != "" && c.Seed != "demo" {
		return fmt.Errorf("%s_SEED=%q: set it to demo, or leave it out", service.Prefix, c.Seed)
	}
	return nil
}
