package gateway_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"pavane/gateway-svc/internal/gateway"
	"pavane/shared/httpapi"
)

func TestUpstream_InstanceRefusesConnections_NoRequestFails(t *testing.T) {
	t.Parallel()
	order := startService(t).on("GET /v1/orders/o-1", 200, confirmed).on("POST /v1/orders", 201, placed)
	reg := at{"order-svc": {deadAddr(t), order.addr(), deadAddr(t)}}.registry(t)
	url := startGateway(t, gateway.Config{Registry: reg})
	for range 20 {
		if got := ask(t, "GET", url+"/v1/orders/o-1", ""); got.status != 200 {
			t.Fatalf("GET: %d %s", got.status, got.text)
		}
		// Not even one that must not be repeated: it was never received.
		if got := ask(t, "POST", url+"/v1/orders", goodOrder); got.status != 202 {
			t.Fatalf("POST: %d %s", got.status, got.text)
		}
	}
}

// killed makes an instance take a request and die before it answers.
func killed(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
}

func TestUpstream_InstanceDiesInTheRequest_RepeatsOnlyWhatIsSafe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method, path, body string
		header             []string
		repeated           bool
	}{
		"read":                {"GET", "/v1/orders/o-1", "", nil, true},
		"order with a key":    {"POST", "/v1/orders", goodOrder, []string{"Idempotency-Key", "k"}, true},
		"order without a key": {"POST", "/v1/orders", goodOrder, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var dead [2]*fakeService
			for i := range dead {
				dead[i] = startService(t)
				dead[i].mux.HandleFunc("/", killed)
			}
			alive := startService(t).on("POST /v1/orders", 201, placed).on("GET /v1/orders/o-1", 200, confirmed)
			reg := at{"order-svc": {dead[0].addr(), dead[1].addr(), alive.addr()}}
			url := startGateway(t, gateway.Config{Registry: reg.registry(t)})
			for range 3 { // so that each instance comes first once
				before := dead[0].count() + dead[1].count() + alive.count()
				got := ask(t, c.method, url+c.path, c.body, c.header...)
				tries := dead[0].count() + dead[1].count() + alive.count() - before
				switch {
				case c.repeated && got.status >= 300:
					t.Errorf("%d %s, want the answer of the living instance", got.status, got.text)
				case !c.repeated && tries != 1:
					t.Errorf("sent %d times, want once", tries)
				case !c.repeated && got.status != 202 && !strings.Contains(got.detail(), "Idempotency-Key"):
					t.Errorf("%d %s, want the word that its outcome is unknown", got.status, got.text)
				}
			}
		})
	}
}

func TestUpstream_BadGatewayOrUnavailable_AsksAnother(t *testing.T) {
	t.Parallel()
	for _, status := range []int{502, 503} {
		bad := startService(t).on("/", status, `{"detail":"no database"}`)
		good := startService(t).on("GET /v1/orders/o-1", 200, confirmed)
		url := startGateway(t, gateway.Config{Registry: at{"order-svc": {bad.addr(), good.addr()}}.registry(t)})
		for range 6 {
			if got := ask(t, "GET", url+"/v1/orders/o-1", ""); got.status != 200 {
				t.Errorf("with an instance that answers %d: %d %s", status, got.status, got.text)
			}
		}
	}
}

func TestUpstream_AllUnavailable_503WithRetryAfter(t *testing.T) {
	t.Parallel()
	bad := startService(t).on("/", 503, `{"detail":"no database"}`)
	for name, reg := range map[string]at{
		"one that answers 503": {"order-svc": {bad.addr()}}, "one that is dead": {"order-svc": {deadAddr(t)}}, "none": {},
	} {
		url := startGateway(t, gateway.Config{Registry: reg.registry(t)})
		got := ask(t, "GET", url+"/v1/orders/o-1", "")
		if got.status != 503 || got.header.Get("Retry-After") == "" || !strings.Contains(got.detail(), "order-svc") {
			t.Errorf("%s: %d, Retry-After %q, %s", name, got.status, got.header.Get("Retry-After"), got.text)
		}
	}
}

func TestUpstream_ServiceRefusesNewWork_PassesItOnAndKeepsAskingTheInstance(t *testing.T) {
	t.Parallel()
	service := startService(t).on("GET /v1/orders/o-1", 200, confirmed)
	tries := 0
	service.mux.HandleFunc("POST /v1/orders", func(w http.ResponseWriter, _ *http.Request) {
		tries++
		w.Header().Set("Retry-After", "5")
		answer(w, 503, `{"type":"`+httpapi.TypeBusy+`","detail":"100000 events wait"}`)
	})
	other := startService(t).on("GET /v1/orders/o-1", 200, confirmed).on("POST /v1/orders", 503, `{"type":"`+httpapi.TypeBusy+`"}`)
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {service.addr()}}.registry(t)})
	for range 8 {
		got := ask(t, "POST", url+"/v1/orders", goodOrder, "Idempotency-Key", "k")
		if got.status != 503 || got.header.Get("Retry-After") != "5" || !strings.Contains(got.detail(), "100000 events wait") || !strings.Contains(got.text, httpapi.TypeBusy) {
			t.Errorf("%d, Retry-After %q, %s", got.status, got.header.Get("Retry-After"), got.text)
		}
	}
	if tries != 8 {
		t.Errorf("8 requests were sent %d times", tries)
	}
	both := startGateway(t, gateway.Config{Registry: at{"order-svc": {service.addr(), other.addr()}}.registry(t)})
	for range 12 {
		ask(t, "POST", both+"/v1/orders", goodOrder, "Idempotency-Key", "k")
	}
	before := other.count()
	for range 8 {
		ask(t, "GET", both+"/v1/orders/o-1", "")
	}
	if other.count() == before {
		t.Error("an instance that refuses new work gets no other requests, either")
	}
}

func TestUpstream_BrokenInstance_IsLeftAloneAfterFiveFailures(t *testing.T) {
	t.Parallel()
	bad := startService(t).on("/", 503, `{}`)
	good := startService(t).on("GET /v1/orders/o-1", 200, confirmed)
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {bad.addr(), good.addr()}}.registry(t)})
	begin := time.Now()
	for range 60 {
		if got := ask(t, "GET", url+"/v1/orders/o-1", ""); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.text)
		}
	}
	trials := int(time.Since(begin)/time.Second) + 1
	if n := bad.count(); n > 5+trials {
		t.Errorf("the broken instance got %d of 60 requests, want 5 and one a second", n)
	}
}

func TestUpstream_BrokenInstanceIsTheOnlyOne_IsAskedAllTheSame(t *testing.T) {
	t.Parallel()
	mending := make(chan struct{})
	only := startService(t)
	only.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-mending:
			answer(w, 200, confirmed)
		default:
			answer(w, 503, `{}`)
		}
	})
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {only.addr()}}.registry(t)})
	for range 3 {
		ask(t, "GET", url+"/v1/orders/o-1", "")
	}
	close(mending)
	if got := ask(t, "GET", url+"/v1/orders/o-1", ""); got.status != 200 {
		t.Errorf("after it was mended: %d %s", got.status, got.text)
	}
}

func TestUpstream_HangingInstance_AnotherAnswersAfterTheTimeLimit(t *testing.T) {
	t.Parallel()
	slow := startService(t).hang("/")
	good := startService(t).on("GET /v1/orders/o-1", 200, confirmed)
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {slow.addr(), good.addr()}}.registry(t)})
	for range 2 {
		begin := time.Now()
		if got := ask(t, "GET", url+"/v1/orders/o-1", ""); got.status != 200 || time.Since(begin) > 5*time.Second {
			t.Errorf("%d after %v: %s", got.status, time.Since(begin), got.text)
		}
	}
	if slow.count() == 0 {
		t.Error("the hanging instance was never asked, so this says nothing")
	}
}
