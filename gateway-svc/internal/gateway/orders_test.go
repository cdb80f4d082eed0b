package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pavane/gateway-svc/internal/gateway"
)

const (
	goodOrder = `{"customer_id":"cust-01","items":[{"sku":"tea-green","quantity":2}]}`
	placed    = `{"order_id":"o-1","state":"placed","version":1,"extra":"kept"}`
	confirmed = `{"order_id":"o-1","state":"confirmed","version":2}`
	cancelled = `{"order_id":"o-1","state":"cancelled","reason":"out_of_stock","detail":"kettle: 0 left","version":2}`
)

func TestPlace_WithoutPrefer_AnswersAtOnceAndPassesTheRequestOn(t *testing.T) {
	t.Parallel()
	order := startService(t)
	var key, body string
	order.mux.HandleFunc("POST /v1/orders", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		key, body = r.Header.Get("Idempotency-Key"), string(b)
		answer(w, 201, placed)
	})
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {order.addr()}}.registry(t)})
	got := ask(t, "POST", url+"/v1/orders", goodOrder, "Idempotency-Key", `"k 1"`)
	if got.status != 202 || got.header.Get("Location") != "/v1/orders/o-1" || got.header.Get("Retry-After") != "1" {
		t.Errorf("status %d, Location %q, Retry-After %q; want 202, the order, 1", got.status, got.header.Get("Location"), got.header.Get("Retry-After"))
	}
	if got.body["extra"] != "kept" {
		t.Errorf("body %s lost a field that the gateway does not know", got.text)
	}
	if key != `"k 1"` || body != goodOrder {
		t.Errorf("order-svc got key %q and body %q, want them as sent", key, body)
	}
}

func TestPlace_Prefer_AnswersWithTheDecision(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		decided string
		wait    string
		status  int
		detail  string
	}{
		"confirmed": {confirmed, "wait=30", 201, ""},
		"cancelled": {cancelled, "wait=30", 409, "out of stock: kettle: 0 left"},
		"undecided": {placed, "wait=1", 202, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			order := startService(t).on("POST /v1/orders", 201, placed)
			order.mux.HandleFunc("GET /v1/orders/o-1", func(w http.ResponseWriter, r *http.Request) {
				if c.decided == placed {
					wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
					<-time.After(wait) // what order-svc does with an order that nobody decides
				}
				answer(w, 200, c.decided)
			})
			url := startGateway(t, gateway.Config{Registry: at{"order-svc": {order.addr()}}.registry(t)})
			got := ask(t, "POST", url+"/v1/orders", goodOrder, "Prefer", "respond-async, "+c.wait)
			if got.status != c.status || !strings.Contains(got.detail(), c.detail) {
				t.Errorf("status %d, detail %q; want %d, %q", got.status, got.detail(), c.status, c.detail)
			}
			if got.header.Get("Preference-Applied") != c.wait || got.header.Get("Location") != "/v1/orders/o-1" {
				t.Errorf("Preference-Applied %q, Location %q", got.header.Get("Preference-Applied"), got.header.Get("Location"))
			}
			if c.status == 409 && (got.body["reason"] != "out_of_stock" || got.body["instance"] == nil || got.header.Get("Content-Type") != "application/problem+json") {
				t.Errorf("problem %s with Content-Type %q does not name its reason", got.text, got.header.Get("Content-Type"))
			}
		})
	}
}

func TestPlace_Undecided_AsksForLessThanWhatIsLeft(t *testing.T) {
	t.Parallel()
	order := startService(t).on("POST /v1/orders", 201, placed)
	order.mux.HandleFunc("GET /v1/orders/o-1", func(w http.ResponseWriter, r *http.Request) {
		wait, err := time.ParseDuration(r.URL.Query().Get("wait"))
		if err != nil || wait > 800*time.Millisecond {
			t.Errorf("order-svc is asked to wait for %v of a second: its answer would come too late", wait)
		}
		<-time.After(wait)
		answer(w, 200, strings.Replace(placed, `"version":1`, `"version":7`, 1))
	})
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {order.addr()}}.registry(t)})
	got := ask(t, "POST", url+"/v1/orders", goodOrder, "Prefer", "wait=1")
	if got.status != 202 || got.body["version"] != 7.0 {
		t.Errorf("%d %s; want 202 with what order-svc said last", got.status, got.text)
	}
	if n := order.count(); n != 2 {
		t.Errorf("%d requests for one order that nobody decides, want 2", n)
	}
}

func TestPlace_OrderServiceFailsWhileWaiting_TheOrderIsStillAnswered(t *testing.T) {
	t.Parallel()
	order := startService(t).on("POST /v1/orders", 201, placed).on("GET /v1/orders/o-1", 500, `{}`)
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {order.addr()}}.registry(t)})
	if got := ask(t, "POST", url+"/v1/orders", goodOrder, "Prefer", "wait=1"); got.status != 202 || got.body["order_id"] != "o-1" {
		t.Errorf("status %d, body %s; want 202 with the order", got.status, got.text)
	}
}

func TestPlace_ProcessStopsWhileWaiting_AnswersWithWhatIsKnown(t *testing.T) {
	t.Parallel()
	stopping := make(chan struct{})
	order := startService(t).on("POST /v1/orders", 201, placed)
	order.mux.HandleFunc("GET /v1/orders/o-1", func(_ http.ResponseWriter, r *http.Request) {
		close(stopping)
		<-r.Context().Done()
	})
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {order.addr()}}.registry(t), Stopping: stopping})
	begin := time.Now()
	got := ask(t, "POST", url+"/v1/orders", goodOrder, "Prefer", "wait=30")
	if got.status != 202 || time.Since(begin) > 10*time.Second {
		t.Errorf("status %d after %v, want 202 at once", got.status, time.Since(begin))
	}
}

// keyedOrders is an order service that knows its idempotency keys.
func keyedOrders(f *fakeService) {
	var mu sync.Mutex
	orders := map[string]string{}
	f.mux.HandleFunc("POST /v1/orders", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		key := r.Header.Get("Idempotency-Key")
		if id, ok := orders[key]; ok {
			w.Header().Set("Idempotency-Replayed", "true")
			answer(w, 200, fmt.Sprintf(`{"order_id":%q,"state":"confirmed","version":2}`, id))
			return
		}
		id := fmt.Sprintf("o-%d", len(orders)+1)
		orders[key] = id
		answer(w, 201, fmt.Sprintf(`{"order_id":%q,"state":"placed","version":1}`, id))
	})
	f.hang("GET /v1/orders/{id}")
}

func TestPlace_GatewayDiesWhileWaiting_AnotherAnswersTheSameKeyForTheSameOrder(t *testing.T) {
	t.Parallel()
	order := startService(t)
	keyedOrders(order)
	reg := at{"order-svc": {order.addr()}}.registry(t)
	stopping := make(chan struct{})
	first := startGateway(t, gateway.Config{Registry: reg, Stopping: stopping})
	got := make(chan answered, 1)
	go func() {
		got <- ask(t, "POST", first+"/v1/orders", goodOrder, "Idempotency-Key", "k", "Prefer", "wait=30")
	}()
	eventually(t, "the gateway waits", func() bool { return order.count() == 2 })
	close(stopping)
	before := <-got
	second := startGateway(t, gateway.Config{Registry: reg})
	after := ask(t, "POST", second+"/v1/orders", goodOrder, "Idempotency-Key", "k", "Prefer", "wait=30")
	if before.body["order_id"] != after.body["order_id"] || after.status != 201 || after.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("first %s; then %d %s", before.text, after.status, after.text)
	}
}

func TestPlace_CustomersOfIssuers_AreTaken(t *testing.T) {
	t.Parallel()
	order := startService(t).on("POST /v1/orders", 201, placed)
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {order.addr()}}.registry(t)})
	for customer, want := range map[string]int{"auth0|5f7c": 202, "Jane.Doe+shop@example.com": 202, "a b": 422, "..": 422, "<b>": 422} {
		body := fmt.Sprintf(`{"customer_id":%q,"items":[{"sku":"a","quantity":1}]}`, customer)
		if got := ask(t, "POST", url+"/v1/orders", body); got.status != want {
			t.Errorf("%s: %d %s, want %d", customer, got.status, got.text, want)
		}
	}
}

func TestPlace_BadInput_SaysWhatToMendAndReachesNobody(t *testing.T) {
	t.Parallel()
	order := startService(t).on("POST /v1/orders", 201, placed)
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {order.addr()}}.registry(t)})
	item := func(s string) string { return `{"customer_id":"c","items":[` + s + `]}` }
	for name, c := range map[string]struct {
		body   string
		status int
		says   string
		header []string
	}{
		"unknown field":     {`{"customer_id":"c","items":[{"sku":"a","quantity":1}],"price":1}`, 422, "unexpected property", nil},
		"price in an item":  {item(`{"sku":"a","quantity":1,"unit_price":1}`), 422, "unexpected property", nil},
		"quantity zero":     {item(`{"sku":"a","quantity":0}`), 422, ">= 1", nil},
		"quantity negative": {item(`{"sku":"a","quantity":-1}`), 422, ">= 1", nil},
		"quantity huge":     {item(`{"sku":"a","quantity":1e30}`), 422, "<= 1000", nil},
		"quantity overflow": {item(`{"sku":"a","quantity":18446744073709551617}`), 422, "<= 1000", nil},
		"quantity fraction": {item(`{"sku":"a","quantity":1.5}`), 422, "integer", nil},
		"quantity text":     {item(`{"sku":"a","quantity":"1"}`), 422, "integer", nil},
		"no items":          {item(``), 422, ">= 1", nil},
		"items null":        {`{"customer_id":"c","items":null}`, 422, "array", nil},
		"no customer":       {`{"items":[{"sku":"a","quantity":1}]}`, 422, "customer_id", nil},
		"currency":          {`{"customer_id":"c","items":[{"sku":"a","quantity":1}],"currency":"eur"}`, 422, "pattern", nil},
		"not JSON":          {`{"customer_id":`, 400, "JSON", nil},
		"no body":           {``, 400, "body", nil},
		"content type":      {goodOrder, 415, "application/json", []string{"Content-Type", "text/plain"}},
		"too large":         {item(`{"sku":"` + strings.Repeat("a", 70<<10) + `","quantity":1}`), 413, "smaller", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := ask(t, "POST", url+"/v1/orders", c.body, c.header...)
			if got.status != c.status || !strings.Contains(got.text, c.says) && !strings.Contains(strings.ReplaceAll(strings.ReplaceAll(got.text, `\u003e`, ">"), `\u003c`, "<"), c.says) {
				t.Errorf("status %d, %s; want %d and %q", got.status, got.text, c.status, c.says)
			}
			if ct := got.header.Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("Content-Type %q, want a problem", ct)
			}
		})
	}
	if n := order.count(); n != 0 {
		t.Errorf("%d bad requests reached order-svc", n)
	}
}

func TestPlace_RefusedByTheService_PassesTheProblemOn(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]int{404: 404, 409: 409, 422: 422, 500: 502, 307: 502} {
		order := startService(t).on("POST /v1/orders", status, `{"status":422,"title":"x","detail":"there is no product frog"}`)
		url := startGateway(t, gateway.Config{Registry: at{"order-svc": {order.addr()}}.registry(t)})
		got := ask(t, "POST", url+"/v1/orders", goodOrder)
		if got.status != want || (want < 500 && got.detail() != "there is no product frog") {
			t.Errorf("order-svc answered %d: got %d %s, want %d", status, got.status, got.text, want)
		}
	}
}

func TestShow_SameVersion_304(t *testing.T) {
	t.Parallel()
	order := startService(t).on("GET /v1/orders/o-1", 200, confirmed)
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {order.addr()}}.registry(t)})
	first := ask(t, "GET", url+"/v1/orders/o-1", "")
	if first.status != 200 || first.header.Get("ETag") != `"2"` {
		t.Fatalf("status %d, ETag %q; want 200, \"2\"", first.status, first.header.Get("ETag"))
	}
	for _, tags := range []string{`"2"`, `"1", W/"2"`, `*`} {
		if got := ask(t, "GET", url+"/v1/orders/o-1", "", "If-None-Match", tags); got.status != 304 || got.text != "" || got.header.Get("ETag") != `"2"` {
			t.Errorf("If-None-Match %s: status %d, body %q, ETag %q; want 304", tags, got.status, got.text, got.header.Get("ETag"))
		}
	}
	if got := ask(t, "GET", url+"/v1/orders/o-1", "", "If-None-Match", `"1"`); got.status != 200 {
		t.Errorf("another version: status %d, want 200", got.status)
	}
}

func TestShow_NoOrderID_422AndNoCall(t *testing.T) {
	t.Parallel()
	order := startService(t).on("/", 200, confirmed)
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {order.addr()}}.registry(t)})
	for _, id := range []string{"%2e%2e%2fv1%2fcustomers", "a%20b", "a%3fb=c"} {
		if got := ask(t, "GET", url+"/v1/orders/"+id, ""); got.status != 422 && got.status != 404 {
			t.Errorf("id %s: status %d %s", id, got.status, got.text)
		}
	}
	if n := order.count(); n != 0 {
		t.Errorf("%d requests reached order-svc", n)
	}
}

func TestCancelAndList_PassOn(t *testing.T) {
	t.Parallel()
	order := startService(t).on("POST /v1/orders/o-1/cancel", 200, cancelled)
	order.on("POST /v1/orders/o-2/cancel", 409, `{"detail":"the order is confirmed"}`)
	var query string
	order.mux.HandleFunc("GET /v1/orders", func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		answer(w, 200, `{"orders":[`+placed+`],"next":"o-1"}`)
	})
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {order.addr()}}.registry(t)})
	if got := ask(t, "POST", url+"/v1/orders/o-1/cancel", ""); got.status != 200 || got.body["state"] != "cancelled" {
		t.Errorf("cancel: %d %s", got.status, got.text)
	}
	if got := ask(t, "POST", url+"/v1/orders/o-2/cancel", ""); got.status != 409 || got.detail() != "the order is confirmed" {
		t.Errorf("cancel of a confirmed order: %d %s", got.status, got.text)
	}
	got := ask(t, "GET", url+"/v1/orders?limit=1&state=placed", "")
	if got.status != 200 || got.body["next"] != "o-1" || query != "limit=1&state=placed" {
		t.Errorf("list: %d %s, query %q", got.status, got.text, query)
	}
}
