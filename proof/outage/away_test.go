package outage_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/demo"
)

const (
	awayRate  = 10                // orders per second while the broker is away
	longSaga  = "1h"              // deadline of the orders: none of them is to end by it
	readyIn   = 5 * time.Second   // for the answer that an order is taken
	drainTime = 120 * time.Second // for what was taken in CI's time; for the full time it is ten times that
)

// away is how long the broker is away: 10 minutes, shortened in CI.
func away() (outage, drain time.Duration) {
	if os.Getenv("PAVANE_PROOF") == "full" {
		return 10 * time.Minute, 10 * drainTime
	}
	return 25 * time.Second, drainTime
}

// The broker is away for long while orders come. Each is taken at the first request, nothing is parked, no attempt is
// counted against anything, and when the broker is back all of them end, in the order that the audit demands.
func TestSaga_BrokerAwayForLong_OrdersAreTakenAndNothingIsParkedOrCounted(t *testing.T) {
	needKafka(t, 1)
	k, p := startKafka(t, 1)[0], startPostgres(t)
	for _, name := range databases() {
		must(t, p.CreateDatabase(t.Context(), name))
	}
	s := startShop(t, p.URL("postgres"), k.Addr(), "PAVANE_ORDER_DEADLINE="+longSaga)
	s.order("before", 0) //nolint:errcheck // it only has every part come up
	outage, drain := away()
	k.Kill()
	ids := s.orderDuring(t, outage)
	s.requireUntouched(t, p.URL("postgres"))
	begin := time.Now()
	restart(t, k)
	up := time.Since(begin)
	s.requireEnds(t, ids, drain)
	drained := time.Since(begin) - up
	line := s.Audit(10 * time.Second)
	s.requireUntouched(t, p.URL("postgres"))
	say(t, 1, "%d orders in %s without a broker; back after %.1f s, all ended %.1f s later; %s", len(ids), outage, up.Seconds(), drained.Seconds(), line)
}

func databases() []string { return []string{"orders", "payments", "inventory", "notifications"} }

// orderDuring places orders on a constant schedule. Each must be taken at the first request.
func (s *shop) orderDuring(t *testing.T, length time.Duration) (ids []string) {
	t.Helper()
	var mu sync.Mutex
	var orders sync.WaitGroup
	tick := time.NewTicker(time.Second / awayRate)
	defer tick.Stop()
	for n, begin := 0, time.Now(); time.Since(begin) < length; n++ {
		orders.Go(func() {
			sent := time.Now()
			a, err := s.gateway.Do(http.MethodPost, "/v1/orders", demo.Body(fmt.Sprintf("cust-%02d", 1+n%19), "mug-red"), "Idempotency-Key", fmt.Sprint("away-", n))
			mu.Lock()
			defer mu.Unlock()
			if took := time.Since(sent); err != nil || a.Status >= http.StatusBadRequest || took > readyIn {
				t.Errorf("order %d after %s: %s %v", n, took, a, err)
				return
			}
			ids = append(ids, path.Base(a.Header.Get("Location")))
		})
		<-tick.C
	}
	orders.Wait()
	return ids
}

// requireEnds waits until all orders are confirmed.
func (s *shop) requireEnds(t *testing.T, ids []string, limit time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(limit); len(ids) > 0; ids = ids[1:] {
		o, err := s.gateway.Ended(max(time.Until(deadline), time.Second), ids[0])
		if err != nil || o.End() != "confirmed" {
			t.Fatalf("%d orders left; order %s: %s %v", len(ids), ids[0], o.End(), err)
		}
	}
}

// requireUntouched demands that no service has parked anything or counts a failed attempt.
func (s *shop) requireUntouched(t *testing.T, server string) {
	t.Helper()
	for _, name := range databases() {
		u, err := url.Parse(server)
		must(t, err)
		u.Path = "/" + name
		db, err := sqlx.ConnectContext(t.Context(), "postgres", u.String())
		must(t, err)
		var parked, refused int
		must(t, db.GetContext(t.Context(), &parked, `select count(*) from parked`))
		must(t, db.GetContext(t.Context(), &refused, `select count(*) from relay_parked`))
		must(t, db.Close())
		if parked != 0 || refused != 0 {
			t.Errorf("%s: %d records are parked in the inbox, %d in the outbox", name, parked, refused)
		}
	}
	failed := regexp.MustCompile(`(?m)^pavane_inbox_faults_total (.*)$`)
	a, err := s.gateway.Do(http.MethodGet, "/v1/members", "")
	must(t, err)
	var list struct {
		Members []struct{ Service, Addr string }
	}
	must(t, json.Unmarshal([]byte(a.Body), &list))
	counted := 0
	for _, m := range list.Members {
		a, err := (&demo.Gateway{Base: "http://" + m.Addr, HTTP: s.gateway.HTTP}).Do(http.MethodGet, "/metrics", "")
		must(t, err)
		if found := failed.FindStringSubmatch(a.Body); found != nil {
			counted++
			if found[1] != "0" {
				t.Errorf("%s counts %s failed attempts", m.Service, found[1])
			}
		}
	}
	if counted != len(databases()) {
		t.Errorf("%d services count attempts, want %d: %s", counted, len(databases()), a)
	}
}
