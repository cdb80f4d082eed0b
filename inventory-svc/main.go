// Command inventory-svc is the saga's stock: it reserves, ships and releases.
package main

import (
	"context"

	"pavane/inventory-svc/internal/api"
	"pavane/inventory-svc/internal/inventory"
	"pavane/migrations"
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
		Name: "inventory-svc", Version: "1", Topics: contract.Topics(), Publishers: contract.Publishers(), Migrations: migrations.Inventory(),
	})
	if err != nil {
		return err
	}
	domain := inventory.New(s.DB())
	if cfg.Seed == "demo" {
		s.Setup("seed", domain.SeedDemo)
	}
	s.ReactSerially(saga(domain)...) // orders share rows of stock
	api.Register(s.HTTP(), domain)
	return s.Run(ctx)
}
