package control

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"pavane/cmd/pavane/internal/fault"
	"pavane/internal/faultproxy"
)

// slow is a system that takes its time to pause a service.
type slow struct {
	fault.Driver
	paused  chan struct{} // closed: it may be
	resumed int
}

func (d *slow) Pause(context.Context, string) error { <-d.paused; return nil }

func (d *slow) Resume(context.Context, string) error { d.resumed++; return nil }

func serverOf(d fault.Driver) *Server {
	s := &Server{driver: d, standing: map[string]*standing{}}
	s.whole, s.end = context.WithCancel(context.Background())
	return s
}

func mustTake(t *testing.T, s *Server) *standing {
	t.Helper()
	f, err := s.take(order{Spec: pauseOf("order-svc")})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Healed before it has begun, it would stand until the end of the demo.
func TestHeal_FaultIsStillBeginning_WaitsForIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &slow{paused: make(chan struct{})}
		s := serverOf(d)
		f := mustTake(t, s)
		go s.start(t.Context(), f) //nolint:errcheck // it does not fail
		healed := make(chan error, 1)
		go func() { healed <- s.Heal(t.Context()) }()
		synctest.Wait()
		if d.resumed != 0 {
			t.Error("healed while it began")
		}
		close(d.paused)
		if err := <-healed; err != nil || d.resumed != 1 || len(s.standing) != 0 {
			t.Errorf("%v, healed %d times, %d stand", err, d.resumed, len(s.standing))
		}
	})
}

// The clock of a fault that is healed runs on; the next one of its name is not its.
func TestMend_FaultWasHealedAndBegunAgain_LeavesTheNewOne(t *testing.T) {
	t.Parallel()
	d := &slow{paused: make(chan struct{})}
	close(d.paused)
	s := serverOf(d)
	var faults [2]*standing
	for i := range faults {
		faults[i] = mustTake(t, s)
		if _, err := s.start(t.Context(), faults[i]); err != nil {
			t.Fatal(err)
		}
		if _, err := s.mend(t.Context(), faults[0]); err != nil {
			t.Fatal(err)
		}
	}
	if d.resumed != 1 || s.standing[faults[1].name] != faults[1] {
		t.Errorf("healed %d times, %d stand; want the second to stand", d.resumed, len(s.standing))
	}
}

// Healing the one would undo the other.
func TestTake_AnotherFaultOfItsResourceStands_IsRefused(t *testing.T) {
	t.Parallel()
	d := &slow{paused: make(chan struct{})}
	close(d.paused)
	s := serverOf(d)
	mustTake(t, s)
	if _, err := s.take(order{Spec: fault.Spec{Kind: "down", Service: "order-svc"}}); err == nil || !strings.Contains(err.Error(), "pause order-svc") {
		t.Errorf("a service that is paused was taken down: %v", err)
	}
	for _, other := range []fault.Spec{{Kind: "pause", Service: "payment-svc"}, {Kind: "kill", Service: "order-svc"}} { // the last is over at once
		if _, err := s.take(order{Spec: other}); err != nil {
			t.Errorf("%s: %v", other, err)
		}
	}
}

// stuck is a system that cannot resume a service at first.
type stuck struct {
	slow
	failures int
}

func (d *stuck) Resume(ctx context.Context, service string) error {
	if d.failures--; d.failures >= 0 {
		return errors.New("not now")
	}
	return d.slow.Resume(ctx, service)
}

func TestMend_CannotBeHealedNow_StandsForTheNextTry(t *testing.T) {
	t.Parallel()
	d := &stuck{slow: slow{paused: make(chan struct{})}, failures: 1}
	close(d.paused)
	s := serverOf(d)
	f := mustTake(t, s)
	if _, err := s.start(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if _, err := s.mend(t.Context(), f); err == nil || s.standing[f.name] != f {
		t.Errorf("%v, %d stand; want an error and the fault to stand", err, len(s.standing))
	}
	if err := s.Heal(t.Context()); err != nil || d.resumed != 1 || len(s.standing) != 0 {
		t.Errorf("%v, healed %d times, %d stand", err, d.resumed, len(s.standing))
	}
}

// Healed means that it is, whoever did it.
func TestMend_SomebodyIsAtIt_WaitsAndTellsTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &lengthy{slow: slow{paused: make(chan struct{})}, resume: make(chan error)}
		close(d.paused)
		s := serverOf(d)
		f := mustTake(t, s)
		if _, err := s.start(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 2)
		for range 2 {
			go func() { ended <- s.Heal(t.Context()) }()
		}
		synctest.Wait() // one is at it
		impatient, cancel := context.WithTimeout(t.Context(), healLimit/2)
		defer cancel()
		if err := s.Heal(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who had no time to wait was told: %v", err)
		}
		if len(ended) > 0 {
			t.Error("healed, and somebody was still at it")
		}
		unhealed := errors.New("not now")
		d.resume <- unhealed
		for range 2 {
			if err := <-ended; !errors.Is(err, unhealed) {
				t.Errorf("of a healing that failed: %v", err)
			}
		}
	})
}

// lengthy is a system that takes its time to resume a service.
type lengthy struct {
	slow
	resume chan error
}

func (d *lengthy) Resume(context.Context, string) error { return <-d.resume }

// half is a system that pauses a service and then fails.
type half struct{ stuck }

func (*half) Pause(context.Context, string) error { return errors.New("not as a whole") }

func TestStart_FailsHalfWay_IsHealedOrStands(t *testing.T) {
	t.Parallel()
	for failures := range 2 {
		d := &half{stuck{failures: failures}}
		s := serverOf(d)
		if _, err := s.start(t.Context(), mustTake(t, s)); err == nil || !strings.Contains(err.Error(), "not as a whole") {
			t.Errorf("begun: %v", err)
		}
		if len(s.standing) != failures {
			t.Errorf("%d stand after %d failures to heal", len(s.standing), failures)
		}
		if err := s.Heal(t.Context()); err != nil || d.resumed != 1 || len(s.standing) != 0 {
			t.Errorf("%v, healed %d times, %d stand", err, d.resumed, len(s.standing))
		}
	}
}

// hung is a system that never comes to an end with pausing a service.
type hung struct{ slow }

func (*hung) Pause(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }

func TestStart_NeverBegins_IsGivenUpAndHealed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &hung{}
		s := serverOf(d)
		f := mustTake(t, s)
		go s.start(t.Context(), f) //nolint:errcheck // Heal below waits for it
		synctest.Wait()
		if err := s.Heal(t.Context()); err != nil || d.resumed != 1 || len(s.standing) != 0 {
			t.Errorf("%v, healed %d times, %d stand", err, d.resumed, len(s.standing))
		}
	})
}

// idle is a system whose services ask for nothing.
type idle struct {
	fault.Driver
	proxy *faultproxy.Proxy
}

func (d idle) Way(string, string) (*faultproxy.Proxy, error) { return d.proxy, nil }

// It would stand in the way of all others until the end of the demo.
func TestMend_NothingCameToBeStruck_IsHealed(t *testing.T) {
	t.Parallel()
	p, err := faultproxy.Start(faultproxy.Config{Protocol: faultproxy.Postgres, Target: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	s := serverOf(idle{proxy: p})
	f, err := s.take(order{Spec: fault.Spec{Kind: "answers", Service: "order-svc", Server: "postgres"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.start(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if did, err := s.mend(t.Context(), f); err != nil || did != fault.ErrMissed.Error() || len(s.standing) != 0 {
		t.Errorf("%q, %v, %d stand", did, err, len(s.standing))
	}
}
