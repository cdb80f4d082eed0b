// Command gateway-svc is the single entrance: it serves the public HTTP API and
// sends each request to the services that can answer it.
package main

import (
	"context"

	"pavane/docs"
	"pavane/gateway-svc/internal/gateway"
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
	svc, err := service.Open(ctx, cfg.Config, service.Spec{Name: "gateway-svc", Version: "1.0.0", Topics: contract.Topics()})
	if err != nil {
		return err
	}
	g := gateway.New(gateway.Config{
		Registry: svc.Registry(), Log: svc.Broker(), Topics: svc.Topics(),
		AsyncAPI: docs.AsyncAPI(), Saga: docs.Saga(), Logger: svc.Logger(), Stopping: ctx.Done(),
		OperatorToken: cfg.OperatorToken, BreakURL: cfg.BreakURL,
	})
	defer g.Close()
	g.Register(svc.HTTP())
	return svc.Run(ctx)
}
