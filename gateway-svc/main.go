// Command gateway-svc is the single entrance: it serves the public HTTP API and
// sends each request to the services that can answer it.
package main

import (
	"context"

	"pavane/docs"
	"pavane/gateway-svc/internal/access"
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
	svc, err := service.Open(ctx, cfg.Config, service.Spec{Name: "gateway-svc", Version: "1.0.0", Topics: contract.Topics(), Public: true})
	if err != nil {
		return err
	}
	callers, err := access.Open(access.Config{
		JWKSFile: cfg.AuthJWKSFile, Issuer: cfg.AuthIssuer, Audience: cfg.AuthAudience, OperatorToken: cfg.OperatorToken,
		Rate: cfg.RateLimit, Burst: cfg.RateBurst, Streams: cfg.MaxStreams, Logger: svc.Logger(),
	})
	if err != nil {
		return err
	}
	networks, err := cfg.networks()
	if err != nil {
		return err
	}
	g := gateway.New(gateway.Config{
		Registry: svc.Registry(), Log: svc.Broker(), Topics: svc.Topics(),
		AsyncAPI: docs.AsyncAPI(), Saga: docs.Saga(), Logger: svc.Logger(), Stopping: ctx.Done(),
		OperatorToken: cfg.OperatorToken, Access: callers, Keys: svc.ServiceKeys(), Networks: networks, BreakURL: cfg.BreakURL,
	})
	defer g.Close()
	g.Register(svc.HTTP())
	return svc.Run(ctx)
}
