package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The pace of asking. CoreDNS lets its answers be kept for five seconds, so an
// instance that is gone is asked for no longer after about seven.
const (
	askInterval = 2 * time.Second
	askTimeout  = 2 * time.Second
	maxStale    = 5 * time.Minute
)

// KubernetesConfig says whom to ask for the instances.
type KubernetesConfig struct {
	// Domain and port of the headless Services, such as shop.svc.cluster.local:8080:
	// the instances of order-svc are the addresses of
	// order-svc.shop.svc.cluster.local, each at port 8080.
	Domain   string
	Networks []netip.Prefix // addresses outside of them are ignored; empty: any

	Logger   *slog.Logger  // required
	OnChange func(Change)  // called for each change, one at a time; it must not block. May be nil
	Resolver *net.Resolver // nil: the one of the system's configuration
}

// Kubernetes is a registry that asks the cluster's DNS. A headless Service
// answers with the addresses of its ready pods. An instance's id is its address.
// While the DNS does not answer, what it said last stands, for five minutes.
type Kubernetes struct {
	config       KubernetesConfig
	domain, port string
	interval     time.Duration
	stale        time.Duration
	table        *table

	mu      sync.Mutex
	watched map[string]*watch
}

// watch is a service that somebody has asked for.
type watch struct {
	asked    atomic.Bool // an answer, or a failure, has come
	mu       sync.Mutex  // held while the DNS is asked
	answered time.Time   // when the DNS last said something
	failing  bool
}

// NewKubernetes checks the configuration. Nothing is asked before the first Lookup.
func NewKubernetes(c KubernetesConfig) (*Kubernetes, error) {
	if err := checkAddr(c.Domain); err != nil {
		return nil, fmt.Errorf("registry: the domain of the Kubernetes Services: %w: want one such as shop.svc.cluster.local:8080", err)
	}
	domain, port, err := net.SplitHostPort(c.Domain)
	if err != nil {
		return nil, fmt.Errorf("registry: %q is not domain:port: %w", c.Domain, err)
	}
	if _, err := netip.ParseAddr(domain); err == nil {
		return nil, fmt.Errorf("registry: the domain of the Kubernetes Services is the IP %s: want one such as shop.svc.cluster.local:8080", domain)
	}
	if c.Resolver == nil {
		c.Resolver = &net.Resolver{PreferGo: true}
	}
	// Without this half an answer, IPv6 without IPv4, would count as a whole one.
	c.Resolver.StrictErrors = true
	return &Kubernetes{
		config: c, domain: strings.TrimSuffix(domain, "."), port: port, interval: askInterval, stale: maxStale,
		table: newTable(), watched: map[string]*watch{},
	}, nil
}

// Lookup returns the instances that the DNS named last. The first one of a
// service waits for the answer, two seconds at most.
func (k *Kubernetes) Lookup(service string) []Instance {
	if checkService(service) != nil {
		return []Instance{}
	}
	k.mu.Lock()
	w := k.watched[service]
	if w == nil {
		w = &watch{}
		k.watched[service] = w
	}
	k.mu.Unlock()
	if !w.asked.Load() { // later ones wait for nobody, even while there is no instance
		w.mu.Lock()
		if !w.asked.Load() {
			k.ask(context.Background(), service, w)
		}
		w.mu.Unlock()
	}
	return k.table.lookup(service)
}

// Run asks again for what was looked up, every two seconds or so, until ctx ends.
func (k *Kubernetes) Run(ctx context.Context) error {
	for {
		// Apart by chance, so that the processes of a cluster do not ask in step.
		wait := time.NewTimer(k.interval + rand.N(k.interval/4) - k.interval/8) // #nosec G404 -- a pause is no secret
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-wait.C:
		}
		var asking sync.WaitGroup
		for service, w := range k.watches() {
			asking.Go(func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				k.ask(ctx, service, w)
			})
		}
		asking.Wait()
	}
}

func (k *Kubernetes) watches() map[string]*watch {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make(map[string]*watch, len(k.watched))
	for service, w := range k.watched {
		all[service] = w
	}
	return all
}

// ask takes over what the DNS says of a service. The caller holds w.mu.
func (k *Kubernetes) ask(ctx context.Context, service string, w *watch) {
	now := time.Now()
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	addrs, err := k.config.Resolver.LookupNetIP(asking, "ip", service+"."+k.domain+".") // the dot: no search list
	if ctx.Err() != nil {
		return
	}
	defer w.asked.Store(true)
	var dns *net.DNSError
	if err != nil && !(errors.As(err, &dns) && dns.IsNotFound) { // not found: no pod is ready
		if !w.failing {
			k.config.Logger.WarnContext(ctx, "the DNS does not say where a service is; what it said last stands for a while",
				"service_asked", service, "for", k.stale, "error", err)
		}
		w.failing = true
		if now.Sub(w.answered) > k.stale {
			k.replace(service, nil)
		}
		return
	}
	w.failing, w.answered = false, now
	k.replace(service, addrs)
}

// replace makes addrs the instances of a service.
func (k *Kubernetes) replace(service string, addrs []netip.Addr) {
	old, now := k.table.lookup(service), map[string]bool{}
	for _, ip := range addrs {
		addr := net.JoinHostPort(ip.Unmap().String(), k.port)
		if err := checkNetwork(k.config.Networks, addr); err != nil {
			k.config.Logger.Debug("an instance is ignored", "service_asked", service, "error", err)
			continue
		}
		now[addr] = true
		i := Instance{Service: service, ID: addr, Addr: addr}
		if k.table.put(i) {
			k.changed(Change{Instance: i, Up: true})
		}
	}
	for _, i := range slices.DeleteFunc(old, func(i Instance) bool { return now[i.ID] }) {
		k.table.remove(service, i.ID)
		k.changed(Change{Instance: i})
	}
}

func (k *Kubernetes) changed(c Change) {
	k.config.Logger.Info("instance changed", "member", c.Instance.Service, "addr", c.Instance.Addr, "up", c.Up)
	if k.config.OnChange != nil {
		k.mu.Lock() // services are asked for at once
		defer k.mu.Unlock()
		k.config.OnChange(c)
	}
}
