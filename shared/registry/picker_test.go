package registry

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pavane/shared/fault"
)

func static(t *testing.T, spec string) *Static {
	t.Helper()
	s, err := ParseStatic(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var errRefused = fmt.Errorf("get: %w", &net.OpError{Op: "dial", Err: errors.New("connection refused")})

// pick takes an instance and ends its request with err.
func pick(t *testing.T, p *Picker, err error, except ...string) string {
	t.Helper()
	i, done, perr := p.Pick("order-svc", except...)
	if perr != nil {
		t.Fatal(perr)
	}
	done(err)
	return i.Addr
}

func TestPicker_Equals_TakeTurns(t *testing.T) {
	t.Parallel()
	p := NewPicker(static(t, "order-svc=h:1,h:2,h:3"))
	count := map[string]int{}
	for range 30 {
		count[pick(t, p, nil)]++
	}
	if count["h:1"] != 10 || count["h:2"] != 10 || count["h:3"] != 10 {
		t.Errorf("got %v", count)
	}
}

func TestPicker_TwoServicesInTurn_EachUsesAllItsInstances(t *testing.T) {
	t.Parallel()
	p := NewPicker(static(t, "order-svc=h:1,h:2;inventory-svc=h:3,h:4"))
	count := map[string]int{}
	for range 10 {
		for _, service := range []string{"order-svc", "inventory-svc"} {
			i, done, err := p.Pick(service)
			if err != nil {
				t.Fatal(err)
			}
			done(nil)
			count[i.Addr]++
		}
	}
	if len(count) != 4 {
		t.Errorf("used %v, want all four", count)
	}
}

func TestPicker_BusyInstance_IsPassedOver(t *testing.T) {
	t.Parallel()
	p := NewPicker(static(t, "order-svc=h:1,h:2"))
	busy, done, err := p.Pick("order-svc")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if got := pick(t, p, nil); got == busy.Addr {
			t.Errorf("picked the busy %s", got)
		}
	}
	done(nil)
	done(nil) // a second call counts for nothing
	count := map[string]int{}
	for range 10 {
		count[pick(t, p, nil)]++
	}
	if count["h:1"] != 5 || count["h:2"] != 5 {
		t.Errorf("after it was done: %v", count)
	}
}

func TestPicker_RefusedConnection_IsPutAsideForASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPicker(static(t, "order-svc=h:1,h:2"))
		bad := pick(t, p, errRefused)
		for range 5 {
			if got := pick(t, p, nil); got == bad {
				t.Errorf("picked %s, which refused", got)
			}
		}
		time.Sleep(ejectFor) // of the bubble's clock
		if a, b := pick(t, p, nil), pick(t, p, nil); a == b {
			t.Errorf("it did not come back: %s twice", a)
		}
		if len(p.state) != 0 {
			t.Errorf("the picker remembers what says nothing: %v", p.state)
		}
	})
}

func TestPicker_OtherErrors_PutNobodyAside(t *testing.T) {
	t.Parallel()
	p := NewPicker(static(t, "order-svc=h:1,h:2"))
	a := pick(t, p, &net.OpError{Op: "read", Err: errors.New("reset")})
	b := pick(t, p, errors.New("500"))
	if c := pick(t, p, nil); a == b || c != a {
		t.Errorf("got %s, %s, %s", a, b, c)
	}
}

func TestPicker_AllPutAside_TakesTheOneThatReturnsFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPicker(static(t, "order-svc=h:1,h:2"))
		first := pick(t, p, errRefused)
		time.Sleep(time.Millisecond)
		pick(t, p, errRefused)
		if got := pick(t, p, nil); got != first {
			t.Errorf("got %s, want %s", got, first)
		}
	})
}

func TestPicker_NoneLeft_IsUnavailable(t *testing.T) {
	t.Parallel()
	p := NewPicker(static(t, "order-svc=h:1"))
	for _, err := range []error{
		second(p.Pick("order-svc", "h:1")),
		second(p.Pick("payment-svc")),
	} {
		if fault.ClassOf(err) != fault.ClassUnavailable || !strings.Contains(err.Error(), "-svc") {
			t.Errorf("got %v", err)
		}
	}
}

func second(_ Instance, _ func(error), err error) error { return err }

// whoever is a registry that names whom it is told.
type whoever []Instance

func (w *whoever) Lookup(string) []Instance { return slices.Clone(*w) }

func TestPicker_RegistryNamesNobody_ThoseOfTheLastTenSecondsStillCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := whoever{{Service: "order-svc", ID: "a", Addr: "h:1"}, {Service: "order-svc", ID: "b", Addr: "h:2"}}
		p := NewPicker(&now)
		pick(t, p, nil)
		now = nil
		time.Sleep(namedFor)
		if got := []string{pick(t, p, nil), pick(t, p, nil)}; got[0] == got[1] {
			t.Errorf("got %v twice, want both in turn", got[0])
		}
		if _, _, err := p.Pick("order-svc", "h:1", "h:2"); fault.ClassOf(err) != fault.ClassUnavailable {
			t.Errorf("both tried: %v, want it to be unavailable", err)
		}
		now = whoever{{Service: "order-svc", ID: "b", Addr: "h:2"}}
		if got := pick(t, p, nil, "h:1"); got != "h:2" {
			t.Errorf("got %s, want the one that is named", got)
		}
		if _, _, err := p.Pick("order-svc", "h:2"); fault.ClassOf(err) != fault.ClassUnavailable {
			t.Errorf("%v: one that is not named counts although another is", err)
		}
		now = nil
		time.Sleep(namedFor + time.Nanosecond)
		if _, _, err := p.Pick("order-svc"); fault.ClassOf(err) != fault.ClassUnavailable {
			t.Errorf("after %s: %v, want it to be unavailable", namedFor, err)
		}
	})
}

func TestPicker_ManyAtOnce_LosesNoCount(t *testing.T) {
	t.Parallel()
	p := NewPicker(static(t, "order-svc=h:1,h:2,h:3"))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 20 {
				if _, done, err := p.Pick("order-svc"); err == nil {
					done(nil)
				}
			}
		})
	}
	wg.Wait()
	if len(p.state) != 0 {
		t.Errorf("counts left: %v", p.state)
	}
}

func TestParseStatic_ReadsTheListAndNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := static(t, "order-svc=127.0.0.1:8081, 127.0.0.1:8082; payment-svc=[::1]:80;")
	if got := s.Lookup("order-svc"); len(got) != 2 || got[1].Addr != "127.0.0.1:8082" || got[0].Service != "order-svc" {
		t.Errorf("got %v", got)
	}
	if got := s.Lookup("payment-svc"); len(got) != 1 || got[0].Addr != "[::1]:80" {
		t.Errorf("got %v", got)
	}
	if got := s.Lookup("nobody"); got == nil || len(got) != 0 {
		t.Errorf("got %v", got)
	}
	for spec, want := range map[string]string{
		"order-svc":              "service=host:port",
		"Order=h:1":              "service name",
		"order-svc=http://h:1":   "http://h:1",
		"order-svc=h":            "host:port",
		"order-svc=h:1,h:99999":  "65535",
		"order-svc=h:1,u@h:2":    "host name",
		"order-svc=":             "host:port",
		"order-svc=h:1/../admin": "65535",
	} {
		if _, err := ParseStatic(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", spec, err, want)
		}
	}
}
