package payment_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"pavane/internal/await"
	"pavane/internal/providersim"
	"pavane/payment-svc/internal/payment"
	"pavane/payment-svc/internal/provider"
)

// twisted is a provider whose answers are changed on their way.
type twisted struct {
	payment.Provider
	charge  func(provider.Charge) provider.Charge
	changes []provider.Charge // in place of its list
}

func (p twisted) twist(c provider.Charge, err error) (provider.Charge, error) {
	if err == nil && p.charge != nil {
		c = p.charge(c)
	}
	return c, err
}

func (p twisted) Authorize(ctx context.Context, in provider.Intent) (provider.Charge, error) {
	return p.twist(p.Provider.Authorize(ctx, in))
}

func (p twisted) Find(ctx context.Context, key string) (provider.Charge, error) {
	return p.twist(p.Provider.Find(ctx, key))
}

func (p twisted) Changes(ctx context.Context, after int64, limit int) ([]provider.Charge, int64, error) {
	if p.changes != nil {
		return p.changes, after, nil
	}
	return p.Provider.Changes(ctx, after, limit)
}

// awaitCharge waits until the order's charge is as told.
func (s *shop) awaitCharge(what string, is func(payment.Charge) bool) {
	s.t.Helper()
	await.True(s.t, waitLimit, what, func() bool {
		c, _, err := s.s.Charge(s.t.Context(), "o-1")
		if err != nil {
			s.t.Fatal(err)
		}
		return is(c)
	})
}

// An answer that brings nothing new does not make up for a request that failed,
// else the next one would follow at once, for as long as requests fail.
func TestCharger_OnlyQuestionsAreAnswered_AsksEverMoreRarely(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.provider.SetFaults(providersim.Faults{FailPercent: 100})
	s.asked("o-1", "tok_ok")
	defer s.run("")()
	s.awaitCharge("four failures in a row", func(c payment.Charge) bool { return c.Failures >= 4 })
}

func TestCharger_QuestionIsRefused_RequestBeforeItStaysOpen(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }))
	t.Cleanup(busy.Close)
	s.url = busy.URL
	s.charger = s.newCharger(s.patient(t))
	s.asked("o-1", "tok_ok")
	s.exec(`update charges set sent = true`) // its charger died
	stop := s.run("")
	s.awaitCharge("a refused question", func(c payment.Charge) bool { return c.Failures > 0 })
	stop()
	s.awaitCharge("the request is still open", func(c payment.Charge) bool { return c.Sent })
}

func TestCharger_OtherAmountIsHeld_IsNotAuthorisedAndGoesBack(t *testing.T) {
	t.Parallel()
	for name, twist := range map[string]func(*provider.Charge){
		"less":             func(c *provider.Charge) { c.Amount-- },
		"another currency": func(c *provider.Charge) { c.Currency = "USD" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			s.charger = s.newCharger(twisted{Provider: s.patient(t), charge: func(c provider.Charge) provider.Charge { twist(&c); return c }})
			o := s.asked("o-1", "tok_ok")
			defer s.run("")()
			s.awaitCharge("the difference is noted", func(c payment.Charge) bool { return c.LastError != "" })
			if got := s.state("o-1"); got != payment.StateAuthorizing {
				t.Errorf("the payment is %s", got)
			}
			s.must(payment.Cancelled, o)
			s.rests()
			s.judge(map[string]bool{"o-1": false})
		})
	}
}

func TestCharger_RefusalSaysWhatNoColumnHolds_DeclinesAllTheSame(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.charger = s.newCharger(twisted{Provider: s.patient(t), charge: func(c provider.Charge) provider.Charge { c.Reason = "a\x00b\xff"; return c }})
	s.asked("o-1", "tok_refuse")
	defer s.run("")()
	s.comes("o-1", payment.StateDeclined)
}

// The provider's list was made before the void that the charger asked for meanwhile.
func TestReconcile_ListIsOlderThanTheVoid_FindsNoDifference(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	o := s.asked("o-1", "tok_ok")
	stop := s.run("")
	s.comes("o-1", payment.StateAuthorized)
	before, _, err := s.patient(t).Changes(t.Context(), 0, 10)
	if err != nil || len(before) != 1 {
		t.Fatalf("%v, %v", before, err)
	}
	s.must(payment.Cancelled, o)
	s.comes("o-1", payment.StateVoided)
	stop()
	s.charger = s.newCharger(twisted{Provider: s.patient(t), changes: before})
	s.reconciles(0)
	s.awaitCharge("nothing is asked again", func(c payment.Charge) bool { return c.Known == provider.Voided })
}
