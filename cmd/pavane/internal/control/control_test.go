package control

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"pavane/cmd/pavane/internal/fault"
	"pavane/cmd/pavane/internal/stack"
	"pavane/internal/await"
)

const long = time.Hour

// paused is a system whose services can be paused.
type paused struct {
	fault.Driver
	mu  sync.Mutex
	who map[string]bool
}

func (p *paused) Pause(_ context.Context, service string) error  { return p.set(service, true) }
func (p *paused) Resume(_ context.Context, service string) error { return p.set(service, false) }

func (p *paused) set(service string, is bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.who[service] = is
	return nil
}

func (p *paused) is(service string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.who[service]
}

func start(t *testing.T) (*paused, stack.Control) {
	t.Helper()
	p := &paused{who: map[string]bool{}}
	s, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(p)
	t.Cleanup(s.Close)
	return p, s.Control()
}

func pauseOf(service string) fault.Spec { return fault.Spec{Kind: "pause", Service: service} }

func TestBreak_WithoutTheToken_IsRefused(t *testing.T) {
	t.Parallel()
	p, c := start(t)
	for _, token := range []string{"", "guess"} {
		err := Break(t.Context(), stack.Control{URL: c.URL, Token: token}, pauseOf("order-svc"), 0, func(string) {})
		if err == nil || !strings.Contains(err.Error(), "403") || p.is("order-svc") {
			t.Errorf("with the token %q: %v, paused %t", token, err, p.is("order-svc"))
		}
	}
}

func TestBreak_ClientGivesUp_IsHealed(t *testing.T) {
	t.Parallel()
	p, c := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Break(ctx, c, pauseOf("order-svc"), long, func(string) {}) }()
	await.True(t, 10*time.Second, "it is paused", func() bool { return p.is("order-svc") })
	cancel()
	if err := <-done; err == nil {
		t.Error("a fault that was given up ended well")
	}
	await.True(t, 10*time.Second, "it is healed", func() bool { return !p.is("order-svc") })
}

func TestBreak_WithoutATime_StandsUntilHealed(t *testing.T) {
	t.Parallel()
	p, c := start(t)
	for _, service := range []string{"order-svc", "payment-svc"} {
		if err := Break(t.Context(), c, pauseOf(service), 0, func(string) {}); err != nil || !p.is(service) {
			t.Fatalf("%s: %v, paused %t", service, err, p.is(service))
		}
	}
	if err := Break(t.Context(), c, pauseOf("order-svc"), 0, func(string) {}); err == nil || !strings.Contains(err.Error(), "broken already") {
		t.Errorf("the same again: %v", err)
	}
	var told []string
	if err := Heal(t.Context(), c, func(line string) { told = append(told, line) }); err != nil {
		t.Fatal(err)
	}
	if p.is("order-svc") || p.is("payment-svc") || len(told) != 2 {
		t.Errorf("after heal: %v; told %q", p.who, told)
	}
}

func TestBreak_ForATime_IsHealedAfterIt(t *testing.T) {
	t.Parallel()
	p, c := start(t)
	if err := Break(t.Context(), c, pauseOf("order-svc"), time.Millisecond, func(string) {}); err != nil || p.is("order-svc") {
		t.Errorf("%v, paused %t", err, p.is("order-svc"))
	}
}

func TestBreak_DemoWithoutControl_SaysSo(t *testing.T) {
	t.Parallel()
	if err := Heal(t.Context(), stack.Control{}, func(string) {}); err == nil || !strings.Contains(err.Error(), "cannot be broken") {
		t.Error(err)
	}
}
