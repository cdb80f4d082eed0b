package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pavane/cmd/pavane/internal/chaos"
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

func (*paused) Missing(context.Context, string) error { return nil }

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
	return startWith(t, nil)
}

func startWith(t *testing.T, run Chaos) (*paused, stack.Control) {
	t.Helper()
	p := &paused{who: map[string]bool{}}
	s, err := Listen("127.0.0.1:0", "let me in")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(p, run)
	t.Cleanup(func() { s.Close(t.Context()) }) //nolint:errcheck // what is broken is the test's
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
	if err := Heal(t.Context(), c, "", func(line string) { told = append(told, line) }); err != nil {
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
	if err := Heal(t.Context(), stack.Control{}, "", func(string) {}); err == nil || !strings.Contains(err.Error(), "cannot be broken") {
		t.Error(err)
	}
}

// call asks the server as the gateway does.
func call(t *testing.T, c stack.Control, method, path, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func look(t *testing.T, c stack.Control) (s state) {
	t.Helper()
	if err := json.Unmarshal([]byte(call(t, c, http.MethodGet, "/faults", "")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBreak_Detached_IsShownAndHealsByItself(t *testing.T) {
	t.Parallel()
	p, c := start(t)
	call(t, c, http.MethodPost, "/faults", `{"kind":"pause","service":"order-svc","for_ns":3600000000000,"detached":true}`)
	s := look(t, c)
	if len(s.Standing) != 1 || s.Standing[0].Name != "pause order-svc" || s.Standing[0].Until == nil || len(s.Kinds) < 10 || s.Chaos != nil {
		t.Errorf("%+v; want the pause and when it ends", s)
	}
	call(t, c, http.MethodPost, "/faults", `{"kind":"pause","service":"payment-svc","for_ns":1000000,"detached":true}`)
	await.True(t, 10*time.Second, "the short one is healed", func() bool { return !p.is("payment-svc") })
	call(t, c, http.MethodDelete, "/faults?name=pause+order-svc", "")
	if s = look(t, c); p.is("order-svc") || len(s.Standing) != 0 || len(s.Notes) != 4 || s.Notes[0].Name != "pause order-svc" {
		t.Errorf("%+v; want nothing broken, and four notes", s)
	}
}

// untilStopped is chaos that goes on until somebody has enough.
func untilStopped(ctx context.Context, o ChaosOrder, healed func(error), progress func(string, ...any)) (*chaos.Report, error) {
	progress("seed %d for %s", o.Seed, o.For)
	<-ctx.Done()
	healed(nil)
	return &chaos.Report{OK: true, Seed: o.Seed, For: o.For, Ended: map[string]int{"confirmed": 3}}, nil
}

func TestRunChaos_ClientHasEnough_GetsTheReport(t *testing.T) {
	t.Parallel()
	_, c := startWith(t, untilStopped)
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	var told []string
	rep, err := RunChaos(ctx, c, ChaosOrder{Seed: 7, For: long}, func(line string) {
		if told = append(told, line); strings.HasPrefix(line, "seed 7 for 1h") {
			enough()
		}
	})
	if err != nil || !rep.OK || rep.Seed != 7 || rep.For != long || rep.Ended["confirmed"] != 3 {
		t.Errorf("%+v, %v; told %q", rep, err, told)
	}
	if s := look(t, c).Chaos; s.Running || s.Verdict == nil {
		t.Errorf("afterwards: %+v", s)
	}
}

func TestRunChaos_ClientIsGone_EndsTheRun(t *testing.T) {
	t.Parallel()
	_, c := startWith(t, untilStopped)
	ctx, gone := context.WithCancel(t.Context())
	defer gone()
	err := ask(ctx, c, http.MethodPost, "/chaos", []byte(`{"seed":7,"attached":true}`), func(line said) {
		if strings.HasPrefix(line.Text, "seed 7") {
			gone()
		}
	})
	if err == nil {
		t.Error("a run that was given up ended well")
	}
	await.True(t, 10*time.Second, "the run has ended", func() bool { return !look(t, c).Chaos.Running })
}

func TestRunChaos_ItCannotBegin_SaysWhy(t *testing.T) {
	t.Parallel()
	_, c := start(t)
	if rep, err := RunChaos(t.Context(), c, ChaosOrder{}, func(string) {}); err == nil || !strings.Contains(err.Error(), "no chaos here") {
		t.Errorf("%+v, %v", rep, err)
	}
	_, c = startWith(t, func(context.Context, ChaosOrder, func(error), func(string, ...any)) (*chaos.Report, error) {
		return nil, errors.New("nothing to break")
	})
	if rep, err := RunChaos(t.Context(), c, ChaosOrder{}, func(string) {}); err == nil || !strings.Contains(err.Error(), "nothing to break") {
		t.Errorf("%+v, %v", rep, err)
	}
}

func TestHeal_OfTheServer_HealsWhatStands(t *testing.T) {
	t.Parallel()
	p := &paused{who: map[string]bool{}}
	s, err := Listen("127.0.0.1:0", "let me in")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(p, nil)
	t.Cleanup(func() { s.Close(t.Context()) }) //nolint:errcheck // there is no chaos
	if err := Break(t.Context(), s.Control(), pauseOf("order-svc"), 0, func(string) {}); err != nil || !p.is("order-svc") {
		t.Fatalf("%v, paused %t", err, p.is("order-svc"))
	}
	if err := s.Heal(t.Context()); err != nil || p.is("order-svc") {
		t.Errorf("%v, paused %t", err, p.is("order-svc"))
	}
}

func TestChaos_RunsOnceAtATimeAndTellsItsVerdict(t *testing.T) {
	t.Parallel()
	_, c := startWith(t, untilStopped)
	call(t, c, http.MethodPost, "/chaos", `{"seed":7}`)
	await.True(t, 10*time.Second, "it tells", func() bool {
		s := look(t, c).Chaos
		return s.Running && s.Seed == 7 && len(s.Lines) == 1
	})
	for _, again := range []string{call(t, c, http.MethodPost, "/chaos", `{"seed":8}`), call(t, c, http.MethodPost, "/faults", `{"kind":"pause","service":"order-svc"}`)} {
		if !strings.Contains(again, "under way") {
			t.Errorf("meanwhile: %s", again)
		}
	}
	call(t, c, http.MethodDelete, "/chaos", "")
	await.True(t, 10*time.Second, "the verdict", func() bool {
		s := look(t, c).Chaos
		return !s.Running && s.Verdict != nil && s.Verdict.OK
	})
}

func TestChaos_WhileSomethingIsBroken_IsRefused(t *testing.T) {
	t.Parallel()
	_, c := startWith(t, untilStopped)
	call(t, c, http.MethodPost, "/faults", `{"kind":"pause","service":"order-svc"}`)
	if said := call(t, c, http.MethodPost, "/chaos", `{"seed":7}`); !strings.Contains(said, "heal them first") {
		t.Error(said)
	}
	_, c = start(t)
	if said := call(t, c, http.MethodPost, "/chaos", `{"seed":7}`); !strings.Contains(said, "no chaos here") {
		t.Error(said)
	}
}

// Who ends the stack knows what it leaves broken.
func TestClose_ChaosHasNotHealed_SaysSo(t *testing.T) {
	t.Parallel()
	s, err := Listen("127.0.0.1:0", "let me in")
	if err != nil {
		t.Fatal(err)
	}
	unhealed, release := errors.New("pause order-svc"), make(chan struct{})
	s.Serve(&paused{}, func(_ context.Context, _ ChaosOrder, healed func(error), _ func(string, ...any)) (*chaos.Report, error) {
		<-release
		healed(unhealed)
		return nil, errors.New("no verdict")
	})
	call(t, s.Control(), http.MethodPost, "/chaos", `{"seed":7}`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("while it heals: %v", err)
	}
	close(release)
	if err := s.Close(t.Context()); !errors.Is(err, unhealed) {
		t.Errorf("when it could not heal: %v", err)
	}
}
