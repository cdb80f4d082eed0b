// Command order-svc takes orders, decides them and shows them. It starts every
// saga; saga.go holds its part of it.
package main

import (
	"context"

	"pavane/migrations"
	"pavane/order-svc/internal/api"
	"pavane/order-svc/internal/order"
	kitconfig "pavane/shared/config"
	"pavane/shared/contract"
	"pavane/shared/service"
)

func main() { service.Main(run) }

func run(ctx context.Context) error {
	var cfg config
	if err := kitconfig.Load(service.Prefix, &cfg); err != nil {
		return err
	}
	svc, err := service.Open(ctx, cfg.Config, service.Spec{
		Name: "order-svc", Version: "1.0.0", Topics: contract.Topics(), Publishers: contract.Publishers(), Migrations: migrations.Order(),
	})
	if err != nil {
		return err
	}
	orders := order.New(order.Config{
		DB: svc.DB(), Outbox: svc.Outbox(), Logger: svc.Logger(), Deadline: cfg.OrderDeadline, Admit: svc.Admit,
	})
	if cfg.Seed == "demo" {
		svc.Setup("seed", orders.Seed)
	}
	svc.Metrics().MustRegister(orders.Overdue())
	api.Register(svc.HTTP(), orders)
	svc.React(saga(orders)...)
	svc.Go("deadlines", orders.Run)
	svc.Go("idempotency keys", orders.PurgeKeys)
	return svc.Run(ctx)
}
