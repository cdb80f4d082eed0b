package e2e_test

import (
	"encoding/json"
	"net/http"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/internal/demo"
)

// testPrefer looks at each answer that a POST may get.
func testPrefer(t *testing.T, u *up) {
	gw := u.gateway()
	post := func(key, prefer, body string) demo.Answer {
		t.Helper()
		a, err := gw.Do(http.MethodPost, "/v1/orders", body, "Idempotency-Key", key, "Prefer", prefer)
		must(t, err)
		if !strings.HasPrefix(a.Header.Get("Location"), "/v1/orders/") {
			t.Errorf("%s: no Location: %s", key, a)
		}
		return a
	}
	for _, c := range []struct {
		key, customer, sku string
		status             int
	}{
		{"prefer-1", wealthy, "tea-green", http.StatusCreated},
		{"prefer-2", wealthy, soldOut, http.StatusConflict},
		{"prefer-3", poor, "tea-green", http.StatusConflict},
	} {
		a := post(c.key, "wait=20", body(c.customer, c.sku))
		if a.Status != c.status || a.Header.Get("Preference-Applied") != "wait=20" {
			t.Errorf("%s: answered %s with Preference-Applied %q, want %d", c.key, a, a.Header.Get("Preference-Applied"), c.status)
		}
		again := post(c.key, "wait=20", body(c.customer, c.sku))
		if again.Status != c.status || again.Header.Get("Location") != a.Header.Get("Location") || again.Header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%s: again: answered %s of %s, want that of %s", c.key, again, again.Header.Get("Location"), a.Header.Get("Location"))
		}
	}
	other := post("prefer-1", "wait=20", body(wealthy, "tea-green"))
	if a, err := gw.Do(http.MethodPost, "/v1/orders", body(wealthy, "honey"), "Idempotency-Key", "prefer-1"); err != nil || a.Status != http.StatusUnprocessableEntity {
		t.Errorf("another order under the key of %s: answered %s, %v; want 422", other.Header.Get("Location"), a, err)
	}

	release := u.hold("payments")
	defer release()
	begin := time.Now()
	a := post("prefer-4", "wait=1", body(wealthy, "tea-green"))
	if took := time.Since(begin); a.Status != http.StatusAccepted || a.Header.Get("Retry-After") == "" || took < 700*time.Millisecond || took > 10*time.Second {
		t.Errorf("undecided: answered %s after %s, want 202 with Retry-After after nearly 1 s", a, took)
	}
	a = post("prefer-5", "respond-async", body(wealthy, "tea-green"))
	if a.Status != http.StatusAccepted || a.Header.Get("Preference-Applied") != "" {
		t.Errorf("not to be waited for: answered %s, want 202", a)
	}
}

// testGatewayEnds ends the gateway with a signal while a client waits for the
// decision. The same request then gets the answer.
func testGatewayEnds(t *testing.T, u *up, how syscall.Signal) {
	gw, key, request := u.gateway(), "restart-"+strings.ReplaceAll(how.String(), " ", "-"), body(wealthy, "tea-black")
	release := u.hold("payments")
	type outcome struct {
		a   demo.Answer
		err error
	}
	waiting := make(chan outcome, 1)
	go func() {
		a, err := gw.Do(http.MethodPost, "/v1/orders", request, "Idempotency-Key", key, "Prefer", "wait=25")
		waiting <- outcome{a, err}
	}()
	id := ""
	await.True(t, startLimit, "the order is placed", func() bool {
		id = undecided(t, gw, "tea-black")
		return id != ""
	})
	old := u.State().Services["gateway-svc"].Pid
	must(t, syscall.Kill(old, how))
	first := <-waiting
	switch {
	case how == syscall.SIGKILL && first.err == nil:
		t.Errorf("the gateway was killed, and yet answered %s", first.a)
	case how == syscall.SIGTERM && (first.err != nil || first.a.Status != http.StatusAccepted || path.Base(first.a.Header.Get("Location")) != id):
		t.Errorf("the gateway was told to end: answered %s, %v; want 202 with the Location of %s", first.a, first.err, id)
	}
	await.True(t, stopLimit, "the gateway is started again", func() bool { return u.State().Services["gateway-svc"].Pid != old })
	release()
	u.awaitReady()
	a, err := gw.Insist(stopLimit, http.MethodPost, "/v1/orders", request, "Idempotency-Key", key, "Prefer", "wait=25")
	must(t, err)
	if a.Status != http.StatusCreated || path.Base(a.Header.Get("Location")) != id || a.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the same request: answered %s of %s, want 201 of %s, replayed", a, a.Header.Get("Location"), id)
	}
}

// undecided is the id of an order for that product which is not decided, if there
// is one. `pavane up` itself orders something after the end of a service.
func undecided(t testing.TB, gw gateway, sku string) string {
	t.Helper()
	a, err := gw.Do(http.MethodGet, "/v1/orders?state=placed", "")
	must(t, err)
	var list struct {
		Orders []struct {
			ID    string `json:"order_id"`
			Items []struct{ SKU string }
		}
	}
	must(t, json.Unmarshal([]byte(a.Body), &list))
	for _, o := range list.Orders {
		if o.Items[0].SKU == sku {
			return o.ID
		}
	}
	return ""
}
