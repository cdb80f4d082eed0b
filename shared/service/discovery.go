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
	config registry.GossipConfig

	asked  registry.Registry           // nil with gossip
	run    func(context.Context) error // of what is asked; may be nil
	gossip atomic.Pointer[registry.Gossip]
}

func newDiscovery(cfg Config, spec Spec, logger *slog.Logger) (*discovery, error) {
	r := cfg.Registry
	switch {
	case r.Static != "":
		s, err := registry.ParseStatic(r.Static)
		return &discovery{asked: s}, err
	case r.Kubernetes != "":
		k, err := registry.NewKubernetes(registry.KubernetesConfig{Domain: r.Kubernetes, Networks: r.Networks, Logger: logger})
		if err != nil {
			return nil, err
		}
		return &discovery{asked: k, run: k.Run}, nil
	}
	d := &discovery{config: registry.GossipConfig{
		Service: spec.Name, Version: strings.Trim(telemetry.Version(), "()"),
		Bind: r.Bind, Advertise: r.Advertise, Join: r.Join, Allowed: r.Allowed, Networks: r.Networks, Logger: logger,
	}}
	return d, r.parseKeys(&d.config)
}

// parseKeys reads the keys that are set.
func (r RegistryConfig) parseKeys(c *registry.GossipConfig) (err error) {
	if r.Key != "" {
		if c.Keys, err = registry.ParseKeys(r.Key); err != nil {
			return err
		}
	}
	if r.SigningKey != "" {
		if c.SigningKey, err = registry.ParseSigningKey(r.SigningKey); err != nil {
			return err
		}
	}
	if r.ServiceKeys != "" {
		c.ServiceKeys, err = registry.ParseServiceKeys(r.ServiceKeys)
	}
	return err
}

// Lookup returns the live instances of a service.
func (d *discovery) Lookup(service string) []registry.Instance {
	if d.asked != nil {
		return d.asked.Lookup(service)
	}
	if g := d.gossip.Load(); g != nil {
		return g.Lookup(service)
	}
	return []registry.Instance{}
}

// part registers the instance that serves at addr, which is asked at the start.
func (d *discovery) part(addr func() string) lifecycle.Part {
	if d.asked != nil {
		return lifecycle.Part{Name: "registry", Run: d.run}
	}
	return lifecycle.Part{
		Name: "registry",
		Start: func(ctx context.Context) error {
			c := d.config
			c.HTTPAddr = addr()
			g, err := registry.NewGossip(c)
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
