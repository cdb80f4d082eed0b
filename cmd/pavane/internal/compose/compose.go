// Package compose owns breaking the stack of compose.yaml: its containers by the
// Docker Engine's API, and the ways of its services to Kafka and Postgres by
// proxies, which compose.chaos.yaml leads them through.
package compose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"

	"pavane/cmd/pavane/internal/fault"
	"pavane/cmd/pavane/internal/stack"
	"pavane/internal/faultproxy"
	"pavane/internal/providersim"
)

// Config says which stack, and how its services come to the proxies. Socket and
// State are required.
type Config struct {
	Socket  string         // of the Docker Engine
	Project string         // of Docker Compose; empty: that of the container in which this runs
	State   stack.State    // where servers and provider are
	Host    string         // by which services reach the proxies
	Kafka   map[string]int // service → port of the proxy through which it reaches Kafka
	Store   map[string]int // service → port of the one to Postgres
}

// Stack is a stack of compose.yaml that can be broken. It is a [fault.Driver].
type Stack struct {
	docker  *docker
	project string
	state   stack.State
	ways    map[way]*faultproxy.Proxy
}

// way is how one service reaches one server.
type way struct{ service, server string }

// Open starts the proxies and takes away what an earlier life has left running.
func Open(ctx context.Context, cfg Config) (*Stack, error) {
	s := &Stack{project: cfg.Project, state: cfg.State, ways: map[way]*faultproxy.Proxy{}}
	server, err := url.Parse(cfg.State.Postgres)
	if err != nil || len(cfg.State.Kafka) == 0 {
		return nil, errors.New("the state file names no Kafka or no Postgres: run deploy/secrets.sh again")
	}
	for _, w := range []struct {
		server string
		ports  map[string]int
		faultproxy.Config
	}{
		{stack.Broker, cfg.Kafka, faultproxy.Config{Protocol: faultproxy.Kafka, Target: cfg.State.Kafka[0]}},
		{stack.Postgres, cfg.Store, faultproxy.Config{Protocol: faultproxy.Postgres, Target: server.Host}},
	} {
		for service, port := range w.ports {
			w.Listen, w.Host = net.JoinHostPort("", strconv.Itoa(port)), cfg.Host
			p, err := faultproxy.Start(w.Config)
			if err != nil {
				s.Close()
				return nil, err
			}
			s.ways[way{service, w.server}] = p
		}
	}
	if err := s.attach(ctx, cfg.Socket); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// attach finds Docker, the project, and what is left of an earlier life.
func (s *Stack) attach(ctx context.Context, socket string) (err error) {
	if s.docker, err = dialDocker(ctx, socket); err != nil {
		return err
	}
	if s.project == "" {
		if s.project, err = s.own(ctx); err != nil {
			return err
		}
	}
	left, err := s.docker.list(ctx, labelProject+"="+s.project, labelSecond)
	for _, c := range left {
		err = errors.Join(err, s.docker.remove(ctx, c.ID))
	}
	return err
}

// own is the project of the container in which this runs: Docker names the host
// by the container's id.
func (s *Stack) own(ctx context.Context) (string, error) {
	id, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the own container: %w", err)
	}
	c, err := s.docker.inspect(ctx, id)
	if err != nil {
		return "", fmt.Errorf("find the own container: %w", err)
	}
	if c.Config.Labels[labelProject] == "" {
		return "", fmt.Errorf("container %s belongs to no project of Docker Compose: start it by compose.chaos.yaml", c.Name)
	}
	return c.Config.Labels[labelProject], nil
}

// Close ends the proxies.
func (s *Stack) Close() {
	for _, p := range s.ways {
		p.Close()
	}
}

// Project names the stack.
func (s *Stack) Project() string { return s.project }

// find returns the container of a service or of a server; of several the first.
func (s *Stack) find(ctx context.Context, name string) (id string, err error) {
	if name == stack.Broker {
		name = "kafka"
	}
	all, err := s.docker.list(ctx, labelProject+"="+s.project, labelService+"="+name, labelOneOff+"=False")
	if err != nil {
		return "", err
	}
	all = slices.DeleteFunc(all, func(c summary) bool { return c.Labels[labelSecond] != "" })
	if len(all) == 0 {
		return "", fmt.Errorf("there is no container of %s in the project %s: bring it up with docker compose up --wait", name, s.project)
	}
	return slices.MinFunc(all, func(a, b summary) int { return cmp.Compare(number(a), number(b)) }).ID, nil
}

func number(c summary) int {
	n, err := strconv.Atoi(c.Labels[labelNumber])
	if err != nil {
		return 0
	}
	return n
}

// on does something to the container of a service or server.
func (s *Stack) on(ctx context.Context, name string, do func(id string) error) error {
	id, err := s.find(ctx, name)
	if err != nil {
		return err
	}
	return do(id)
}

func (s *Stack) verb(ctx context.Context, name, verb string) error {
	return s.on(ctx, name, func(id string) error { return s.docker.do(ctx, id, verb) })
}

// Kill kills a service with SIGKILL and returns when it runs again. Docker itself
// does not start what it was told to kill.
func (s *Stack) Kill(ctx context.Context, service string) error {
	return s.on(ctx, service, func(id string) error {
		if err := s.docker.end(ctx, id, "KILL"); err != nil {
			return err
		}
		return s.docker.do(ctx, id, "start")
	})
}

// Restart stops a service as a rollout does and returns when it runs again.
func (s *Stack) Restart(ctx context.Context, service string) error {
	return s.verb(ctx, service, "restart")
}

// Pause freezes all processes of a service.
func (s *Stack) Pause(ctx context.Context, service string) error {
	return s.verb(ctx, service, "pause")
}

// Resume ends what Pause began. Docker refuses to when the service is not paused.
func (s *Stack) Resume(ctx context.Context, service string) error {
	return s.on(ctx, service, func(id string) error {
		c, err := s.docker.inspect(ctx, id)
		if err != nil || !c.State.Paused {
			return err
		}
		return s.docker.do(ctx, id, "unpause")
	})
}

// Down takes a service or a server down until Up. Hard is kill -9; else Postgres
// stops at once, by SIGQUIT, and all others when they have finished what they do.
func (s *Stack) Down(ctx context.Context, name string, hard bool) error {
	return s.on(ctx, name, func(id string) error {
		switch {
		case hard:
			return s.docker.end(ctx, id, "KILL")
		case name == stack.Postgres:
			return s.docker.end(ctx, id, "QUIT")
		}
		return s.docker.do(ctx, id, "stop")
	})
}

// Up ends what Down began and returns when it runs again; a server must answer.
func (s *Stack) Up(ctx context.Context, name string) error {
	if err := s.verb(ctx, name, "start"); err != nil {
		return err
	}
	switch name {
	case stack.Broker:
		return fault.AwaitLog(ctx, s)
	case stack.Postgres:
		return fault.AwaitPostgres(ctx, s.state.Postgres)
	}
	return nil
}

// Way is the proxy between a service and a server, broker or postgres.
func (s *Stack) Way(service, server string) (*faultproxy.Proxy, error) {
	if p := s.ways[way{service, server}]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%s has no way to %q that can be broken: compose.chaos.yaml leads it through no proxy", service, server)
}

// SlowDisk has each flush of Postgres take longer, 100 ms at most.
func (s *Stack) SlowDisk(ctx context.Context, added time.Duration) error {
	return fault.SlowDisk(ctx, s.state.Postgres, added)
}

// Provider replaces what goes wrong at the card provider.
func (s *Stack) Provider(ctx context.Context, f providersim.Faults) error {
	return fault.SetProvider(ctx, s.state.Provider, f)
}

// Log says where the records are, past all proxies.
func (s *Stack) Log() (brokers []string, namespace string) { return s.state.Kafka, s.state.Namespace }
