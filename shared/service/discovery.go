package service

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"pavane/shared/lifecycle"
	"pavane/shared/registry"
	"pavane/shared/telemetry"
)

// discovery is the registry of the process. With gossip it knows nobody before
// its Start, because the address to register is only known once HTTP listens.
type discovery struct {
	cfg    Config
	spec   Spec
	key    []byte
	logger *slog.Logger

	static *registry.Static // nil with gossip
	gossip atomic.Pointer[registry.Gossip]
}

func newDiscovery(cfg Config, spec Spec, logger *slog.Logger) (*discovery, error) {
	d := &discovery{cfg: cfg, spec: spec, logger: logger}
	var err error
	if cfg.Registry.Static != "" {
		d.static, err = registry.ParseStatic(cfg.Registry.Static)
		return d, err
	}
	if cfg.Registry.Key != "" {
		d.key, err = registry.ParseKey(cfg.Registry.Key)
	}
	return d, err
}

// Lookup returns the live instances of a service.
func (d *discovery) Lookup(service string) []registry.Instance {
	if d.static != nil {
		return d.static.Lookup(service)
	}
	if g := d.gossip.Load(); g != nil {
		return g.Lookup(service)
	}
	return []registry.Instance{}
}

// part registers the instance that serves at addr, which is asked at the start.
func (d *discovery) part(addr func() string) lifecycle.Part {
	if d.static != nil {
		return lifecycle.Part{Name: "registry"}
	}
	return lifecycle.Part{
		Name: "registry",
		Start: func(ctx context.Context) error {
			g, err := registry.NewGossip(d.config(addr()))
			if err != nil {
				return err
			}
			if err := g.Start(ctx); err != nil {
				return err
			}
			d.gossip.Store(g)
			return nil
		},
		Run:  func(ctx context.Context) error { return d.gossip.Load().Run(ctx) },
		Stop: func(ctx context.Context) error { return d.gossip.Load().Stop(ctx) },
	}
}

func (d *discovery) config(httpAddr string) registry.GossipConfig {
	r := d.cfg.Registry
	return registry.GossipConfig{
		Service: d.spec.Name, Version: strings.Trim(telemetry.Version(), "()"), HTTPAddr: httpAddr,
		Bind: r.Bind, Advertise: r.Advertise, Join: r.Join, Key: d.key, Allowed: r.Allowed, Logger: d.logger,
	}
}
