package e2e_test

import (
	"fmt"
	"net/http"
	"path"
	"strings"
	"testing"

	"pavane/internal/demo"
)

const (
	admitted     = 20   // events that may wait
	tooMany      = 2000 // orders, by which the limit must have been seen
	repeatedKeys = 5
)

// Kafka is away, and orders come: beyond the limit they are turned away, with a
// word when to come again. Those that were taken are answered as before, and end.
func TestGateway_MoreWaitsThanIsAdmitted_TurnsAwayAndWhatWasTakenEnds(t *testing.T) {
	t.Parallel()
	d := start(t, how{embedded: true, env: []string{fmt.Sprint("PAVANE_MAX_BACKLOG=", admitted), "PAVANE_ORDER_DEADLINE=1h"}})
	gw := d.Gateway()
	tool(t, d, "break", "broker")
	place := func(n int) demo.Answer {
		a, err := gw.Do(http.MethodPost, "/v1/orders", demo.Body(fmt.Sprintf("cust-%02d", 1+n%19), "mug-red"), "Idempotency-Key", fmt.Sprint("admission-", n))
		must(t, err)
		return a
	}
	var ids []string
	refused := demo.Answer{}
	for n := 0; n < tooMany && refused.Status == 0; n++ {
		switch a := place(n); a.Status {
		case http.StatusAccepted:
			ids = append(ids, path.Base(a.Header.Get("Location")))
		case http.StatusServiceUnavailable:
			refused = a
		default:
			t.Fatalf("order %d: %s", n, a)
		}
	}
	if refused.Header.Get("Retry-After") == "" || !strings.Contains(refused.Body, "urn:pavane:problem:busy") || len(ids) < admitted {
		t.Errorf("after %d orders the answer is %s, Retry-After %q; want it from %d on, with the reason and when to come again",
			len(ids), refused, refused.Header.Get("Retry-After"), admitted)
	}
	for n := range min(repeatedKeys, len(ids)) {
		if a := place(n); path.Base(a.Header.Get("Location")) != ids[n] {
			t.Errorf("order %d, which was taken, asked for again: %s; want the same order", n, a)
		}
	}
	tool(t, d, "heal")
	for _, id := range ids {
		if o, err := gw.Ended(orderLimit, id); err != nil || o.End() != "confirmed" {
			t.Fatalf("order %s: %s %v", id, o.End(), err)
		}
	}
	t.Logf("%d orders taken, then %s; %s", len(ids), refused, d.Audit(settle))
}

// tool runs a command of pavane on a demo, which must succeed.
func tool(t *testing.T, d *up, args ...string) {
	t.Helper()
	if out, err := d.Tool(args...); err != nil {
		t.Fatalf("pavane %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
