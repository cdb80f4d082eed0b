// Package fault owns the ways to break a running system on purpose, and how each
// is undone. What a kind of fault does is written once, against [Driver]; `pavane
// chaos` deals faults out by a schedule, `pavane break` causes one at a time.
package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pavane/internal/faultproxy"
	"pavane/internal/providersim"
)

// Driver does to one system what faults ask for. Services go by their names,
// servers by "broker", "postgres" and "provider".
type Driver interface {
	// Missing says what the system lacks to cause faults of a kind; nil: nothing.
	Missing(ctx context.Context, kind string) error
	// Kill and Restart return when the service runs again.
	Kill(ctx context.Context, service string) error
	Restart(ctx context.Context, service string) error
	Pause(ctx context.Context, service string) error
	Resume(ctx context.Context, service string) error
	// Down takes a service or a server down until Up; hard: as a crash does.
	Down(ctx context.Context, name string, hard bool) error
	Up(ctx context.Context, name string) error
	// Second starts another instance of a service; stop stops it.
	Second(ctx context.Context, service string) (stop func(context.Context) error, err error)
	// Way is the proxy through which a service reaches a server.
	Way(service, server string) (*faultproxy.Proxy, error)
	// SlowDisk has each flush of Postgres take longer, 100 ms at most; 0 is as it is.
	SlowDisk(ctx context.Context, added time.Duration) error
	// MoveClock has the clock of Postgres jump to so much after the machine's, or
	// before it; 0 puts it right.
	MoveClock(ctx context.Context, by time.Duration) error
	// Provider replaces what goes wrong at the card provider; the zero value is nothing.
	Provider(ctx context.Context, f providersim.Faults) error
	// Log says where the records are: host:port of brokers, past all proxies, and
	// what the names of topics begin with.
	Log() (brokers []string, namespace string)
}

// Spec is one fault to be caused.
type Spec struct {
	Kind    string `json:"kind"`
	Service string `json:"service,omitempty"` // of kinds that want one
	Server  string `json:"server,omitempty"`  // of kinds that want one
	Seed    uint64 `json:"seed,omitempty"`    // decides what is left to chance
}

// String names the fault as one writes it after `pavane break`.
func (s Spec) String() string {
	return strings.Join(slices.DeleteFunc([]string{s.Kind, s.Service, s.Server}, func(w string) bool { return w == "" }), " ")
}

// Resource is what the fault is about: two faults on one resource at the same
// time could not be told apart.
func (s Spec) Resource() string {
	switch {
	case s.Service != "" && s.Server != "":
		return s.Service + " → " + s.Server
	case s.Service != "":
		return s.Service
	case s.Kind == Clock:
		return Clock // Postgres may well crash under another time
	case strings.HasPrefix(s.Kind, "postgres"):
		return "postgres"
	case strings.HasPrefix(s.Kind, "provider"):
		return "provider"
	}
	return "broker" // records are written into its log
}

// ErrMissed means that a fault had nothing to strike while it stood.
var ErrMissed = errors.New("no request came that could have been struck")

// Fault is one fault of one system. Begin causes it, Heal undoes it; both say
// what happened, and an error means that it did not. A Heal that returns ErrMissed
// has left nothing broken.
type Fault interface {
	Begin(ctx context.Context) (did string, err error)
	Heal(ctx context.Context) (did string, err error)
}

// Kind is one way to break things.
type Kind struct {
	Name     string
	Services []string // that it can be about; none: it is about no service
	Servers  []string // of the way it is about
	// Least and Most bound how long it lasts in a schedule. Both 0: it is over
	// when it has begun.
	Least, Most time.Duration
	Breaks      string // what it breaks
	Expect      string // what one should see
	make        func(Spec, Driver) Fault
}

// New makes the fault for a system. The error of a wrong spec names what would
// be right.
func New(s Spec, d Driver) (Fault, error) {
	k, err := Find(s.Kind)
	if err != nil {
		return nil, err
	}
	if err := among("service", s.Service, k.Services, k.Name); err != nil {
		return nil, err
	}
	if err := among("server", s.Server, k.Servers, k.Name); err != nil {
		return nil, err
	}
	return k.make(s, d), nil
}

func among(what, got string, want []string, kind string) error {
	if len(want) == 0 && got == "" || slices.Contains(want, got) {
		return nil
	}
	if len(want) == 0 {
		return fmt.Errorf("%s is about no %s; leave %q out", kind, what, got)
	}
	return fmt.Errorf("%s wants a %s: one of %s; not %q", kind, what, strings.Join(want, ", "), got)
}

// Find returns the kind of that name.
func Find(name string) (Kind, error) {
	var names []string
	for _, k := range Kinds() {
		if k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return Kind{}, fmt.Errorf("there is no fault %q: want one of %s", name, strings.Join(names, ", "))
}
