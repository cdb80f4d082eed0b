package stack

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"pavane/cmd/pavane/internal/fault"
	"pavane/internal/devstack"
	"pavane/internal/faultproxy"
	"pavane/internal/providersim"
)

// Servers that a stack runs beside its services.
const (
	Broker   = "broker"
	Postgres = "postgres"
)

// way is how one service reaches one server.
type way struct{ service, server string }

// startProxies puts a proxy before each server of ours for each service.
// Somebody else's are not the stack's to break, and may speak TLS.
func (s *Stack) startProxies(context.Context) error {
	if !s.cfg.Breakable {
		return nil
	}
	for _, svc := range services() {
		if s.broker != nil {
			if err := s.lead(way{svc.name, Broker}, faultproxy.Config{Protocol: faultproxy.Kafka, Target: s.cfg.Kafka}); err != nil {
				return err
			}
		}
		if s.postgres != nil && svc.database != "" {
			if err := s.lead(way{svc.name, Postgres}, faultproxy.Config{Protocol: faultproxy.Postgres, Target: hostOf(s.cfg.Postgres)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Stack) lead(w way, cfg faultproxy.Config) error {
	p, err := faultproxy.Start(cfg)
	if err == nil {
		s.ways[w] = p
	}
	return err
}

func (s *Stack) brokersFor(service string) string {
	if p := s.ways[way{service, Broker}]; p != nil {
		return p.Addr()
	}
	return s.cfg.Kafka
}

func (s *Stack) postgresFor(service string) string {
	p := s.ways[way{service, Postgres}]
	u, err := url.Parse(s.cfg.Postgres)
	if p == nil || err != nil {
		return s.cfg.Postgres // opening it says what is wrong
	}
	u.Host = p.Addr()
	return u.String()
}

// Way is the proxy between a service and a server, Broker or Postgres.
func (s *Stack) Way(service, server string) (*faultproxy.Proxy, error) {
	if p := s.ways[way{service, server}]; p != nil {
		return p, nil
	}
	if _, err := s.find(service); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s has no way to %q that can be broken: only the ways to a %s or %s that the demo started itself lead through a proxy", service, server, Broker, Postgres)
}

// find returns the process of a service.
func (s *Stack) find(service string) (*child, error) {
	names := make([]string, 0, len(s.children))
	for _, c := range s.children {
		if c.name == service {
			return c, nil
		}
		names = append(names, c.name)
	}
	return nil, fmt.Errorf("there is no service %q: want one of %s", service, strings.Join(names, ", "))
}

// Kill kills a service with SIGKILL and returns when it runs again.
func (s *Stack) Kill(ctx context.Context, service string) error { return s.again(ctx, service, true) }

// Restart stops a service as a rollout does and returns when it runs again.
func (s *Stack) Restart(ctx context.Context, service string) error {
	return s.again(ctx, service, false)
}

func (s *Stack) again(ctx context.Context, service string, kill bool) error {
	c, err := s.find(service)
	if err != nil {
		return err
	}
	if err := end(ctx, c, kill); err != nil {
		return err
	}
	return poll(ctx, service+" does not come back", func() bool { return c.pid() != 0 })
}

// Pause stops a service with SIGSTOP: it lives and does nothing.
func (s *Stack) Pause(_ context.Context, service string) error {
	return s.signal(service, syscall.SIGSTOP)
}

// Resume ends what Pause began. One that does not run is not paused.
func (s *Stack) Resume(_ context.Context, service string) error {
	if err := s.signal(service, syscall.SIGCONT); !errors.Is(err, errNotRunning) {
		return err
	}
	return nil
}

func (s *Stack) signal(service string, sig syscall.Signal) error {
	c, err := s.find(service)
	if err != nil {
		return err
	}
	_, err = c.send(sig)
	return err
}

// What only somebody who runs the server could do to it.
var (
	errOthersBroker   = errors.New("the broker is not the stack's: only one that it started is broken")
	errOthersPostgres = errors.New("this Postgres is not the stack's: only one that it started is broken")
)

// Down takes down a service, or one of the servers, until Up. Hard is kill -9
// for a broker or Postgres; else Postgres stops at once (pg_ctl -m immediate),
// and all others when they have finished what they do.
func (s *Stack) Down(ctx context.Context, name string, hard bool) error {
	switch name {
	case Broker:
		if s.broker == nil {
			return errOthersBroker
		}
		return s.broker.down(ctx, hard)
	case Postgres:
		switch {
		case s.postgres == nil:
			return errOthersPostgres
		case hard:
			s.postgres.Kill()
			return nil
		}
		return s.postgres.StopImmediate(ctx)
	}
	c, err := s.find(name)
	if err != nil {
		return err
	}
	return takeDown(ctx, c, hard)
}

// Up ends what Down began and returns when it runs again.
func (s *Stack) Up(ctx context.Context, name string) error {
	switch {
	case name == Broker && s.broker != nil:
		return s.broker.up(ctx)
	case name == Postgres && s.postgres != nil:
		if err := s.postgres.Restart(ctx); err != nil {
			return err
		}
		if now := hostOf(s.postgres.URL("postgres")); now != hostOf(s.cfg.Postgres) {
			return fmt.Errorf("the Postgres came back at %s, because somebody took %s meanwhile; start the stack again", now, hostOf(s.cfg.Postgres))
		}
		return nil
	}
	c, err := s.find(name)
	if err != nil {
		return err
	}
	c.release()
	return poll(ctx, name+" does not come back", func() bool { return c.pid() != 0 })
}

// Second starts another instance of a service beside the one that runs, with a
// relay and a consumer of its own, and returns what stops it.
func (s *Stack) Second(_ context.Context, service string) (stop func(context.Context) error, err error) {
	first, err := s.find(service)
	if err != nil {
		return nil, err
	}
	if service == gateway {
		return nil, errors.New("the gateway is the one entrance of the demo: there is no second one")
	}
	c := s.child(service+"-2", first.binary, append(first.env[:len(first.env):len(first.env)], "PAVANE_REGISTRY_BIND="+loopback(0)))
	s.mu.Lock()
	_, there := s.second[service]
	if !there {
		s.second[service] = c
	}
	s.mu.Unlock()
	if there {
		return nil, fmt.Errorf("%s has a second instance already", service)
	}
	if err := c.start(); err != nil {
		s.forget(service)
		return nil, err
	}
	return func(ctx context.Context) error {
		c.stop(ctx)
		s.forget(service)
		return nil
	}, nil
}

func (s *Stack) forget(service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.second, service)
	delete(s.state.Services, service+"-2")
	if err := s.state.write(filepath.Clean(s.cfg.Dir)); err != nil {
		s.cfg.Progress("%v", err)
	}
}

// SlowDisk has each flush of Postgres take longer, 100 ms at most.
func (s *Stack) SlowDisk(ctx context.Context, added time.Duration) error {
	if s.postgres == nil {
		return errOthersPostgres
	}
	return fault.SlowDisk(ctx, s.cfg.Postgres, added)
}

// Missing says what this machine lacks to cause faults of a kind; nil: nothing.
func Missing(kind string) error {
	if kind != fault.Clock {
		return nil
	}
	_, err := devstack.Faketime()
	return err
}

// Missing says what the stack lacks to cause faults of a kind: a server of its own,
// or what [Missing] names.
func (s *Stack) Missing(_ context.Context, kind string) error {
	switch {
	case strings.HasPrefix(kind, Broker) && s.broker == nil:
		return errOthersBroker
	case (strings.HasPrefix(kind, Postgres) || kind == fault.Clock) && s.postgres == nil:
		return errOthersPostgres
	}
	return Missing(kind)
}

// MoveClock has the clock of Postgres, and with it that of every service, jump to
// so much after the machine's; 0 puts it right.
func (s *Stack) MoveClock(ctx context.Context, by time.Duration) error {
	if s.postgres == nil {
		return errOthersPostgres
	}
	return s.postgres.MoveClock(ctx, by)
}

// Provider replaces what goes wrong at the card provider.
func (s *Stack) Provider(ctx context.Context, f providersim.Faults) error {
	return fault.SetProvider(ctx, s.state.Provider, f)
}

// Log says where the records are, past all proxies: the brokers, and what the
// names of topics begin with.
func (s *Stack) Log() (brokers []string, namespace string) {
	return strings.Split(s.cfg.Kafka, ","), s.cfg.Namespace
}
