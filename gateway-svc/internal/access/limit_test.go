package access

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"
)

func TestRates_ManyPrincipals_NeedBoundedMemoryAndGetNoMore(t *testing.T) {
	t.Parallel()
	const most = 50
	now := time.Now()
	l := newRates(1, 2)
	l.addresses.most = most
	for i := range most {
		l.take(fmt.Sprint("first ", i), now)
	}
	passed := 0
	for i := range 10 * most {
		if l.take(fmt.Sprint("more ", i), now) == 0 {
			passed++
		}
	}
	if len(l.addresses.each) > most || passed != 2 {
		t.Errorf("%d counts, want %d at most; %d requests of those without a count passed, want the 2 of one", len(l.addresses.each), most, passed)
	}
	later := now.Add(time.Minute) // all counts are full again, so they make room
	if l.take("late", later) != 0 || len(l.addresses.each) != 1 {
		t.Errorf("%d counts after a minute without requests", len(l.addresses.each))
	}
}

func TestRates_ManyAddresses_TakeNoPlaceOfSubjects(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newRates(1, 2)
	l.subjects.most, l.addresses.most = 5, 5
	for i := range 100 {
		l.take(fmt.Sprint("address ", i), now)
	}
	for i := range 5 {
		for n := range 2 {
			if l.take(fmt.Sprint("subject ", i), now) != 0 {
				t.Errorf("request %d of subject %d is refused: it shares a count", n, i)
			}
		}
	}
}

func TestRates_RefusedRequests_CostNothing(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newRates(1, 1)
	l.take("a", now)
	for range 100 {
		if wait := l.take("a", now); wait != time.Second {
			t.Fatalf("wait %s, want 1s", wait)
		}
	}
	if wait := l.take("a", now.Add(time.Second)); wait != 0 {
		t.Errorf("after the wait: %s", wait)
	}
}

func TestWho_AddressesOfOneHolder_AreOne(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"192.0.2.1:80": "address 192.0.2.1", "[::ffff:192.0.2.1]:80": "address ::ffff:192.0.2.1",
		"[2001:db8::1]:80": "address 2001:db8::/64", "[2001:db8::ffff:1]:80": "address 2001:db8::/64",
		"[fe80::1%eth0]:80": "address fe80::/64", "odd": "address odd",
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		r.RemoteAddr = addr
		r.Header.Set("X-Forwarded-For", "198.51.100.7")
		if got := who(r); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
