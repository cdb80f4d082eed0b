// Command payment-svc is the saga's money: it authorises, captures and voids.
package main

import (
	"context"

	"pavane/migrations"
	"pavane/payment-svc/internal/api"
	"pavane/payment-svc/internal/payment"
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
	domain := payment.New(s.DB(), map[string]payment.Method{"wallet": payment.Wallet{}})
	if cfg.Seed == "demo" {
		s.Setup("seed", domain.SeedDemo)
	}
	s.ReactSerially(saga(domain)...) // orders share accounts
	api.Register(s.HTTP(), domain)
	return s.Run(ctx)
}
