// Command payment-svc is the saga's money: it authorises, captures and voids.
package main

import (
	"context"

	"pavane/migrations"
	"pavane/payment-svc/internal/api"
	"pavane/payment-svc/internal/payment"
	"pavane/payment-svc/internal/provider"
	"pavane/shared/config"
	"pavane/shared/contract"
	"pavane/shared/service"
)

func main() { service.Main(run) }

func run(ctx context.Context) error {
	var cfg Config
	if err := config.Load(service.Prefix, &cfg); err != nil {
		return err
	}
	s, err := service.Open(ctx, cfg.Config, service.Spec{
		Name: "payment-svc", Version: "1", Topics: contract.Topics(), Publishers: contract.Publishers(), Migrations: migrations.Payment(),
	})
	if err != nil {
		return err
	}
	methods := map[string]payment.Method{"wallet": payment.Wallet{}, "card": payment.Card{}}
	domain := payment.New(s.DB(), methods)
	if cfg.Provider.URL != "" {
		methods["card"] = payment.Card{Wake: startCharger(s, domain, cfg.Provider)}
	}
	if cfg.Seed == "demo" {
		s.Setup("seed", domain.SeedDemo)
	}
	s.ReactSerially(saga(domain)...) // orders share accounts
	api.Register(s.HTTP(), domain)
	return s.Run(ctx)
}

// startCharger adds what asks the card provider, and returns what wakes it.
func startCharger(s *service.Service, domain *payment.Service, cfg provider.Config) (wake func()) {
	c := payment.NewCharger(payment.ChargerConfig{
		DB: s.DB(), Service: domain, Outbox: s.Outbox(), Provider: provider.New(cfg), Alone: s.Alone,
		Timeout: cfg.Timeout, Logger: s.Logger(), Metrics: s.Metrics(), Tracer: s.Tracer(),
	})
	s.Go("charger", c.Run)
	s.Go("reconciliation", c.Reconcile(cfg.Reconcile))
	return c.Wake
}
