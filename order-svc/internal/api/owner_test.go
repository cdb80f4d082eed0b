package api_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"pavane/order-svc/internal/api"
	"pavane/shared/httpapi"
	"pavane/shared/identity"
)

// guarded is setup with a service that takes signed calls alone.
func guarded(t *testing.T) (*bench, *identity.Keys) {
	t.Helper()
	b := setup(t)
	keys, err := identity.ParseKeys("a-service-key-of-thirty-two-bytes-or-more")
	if err != nil {
		t.Fatal(err)
	}
	srv := httpapi.New(httpapi.Config{Title: "order-svc", Version: "1.0.0", Logger: slog.New(slog.DiscardHandler)})
	srv.ForServices("order-svc", keys)
	api.Register(srv, b.orders)
	ts := httptest.NewServer(srv.Handler())
	t.Cleanup(ts.Close)
	b.url = ts.URL
	return b, keys
}

// as is the header of a call of the gateway for a customer.
func as(t *testing.T, keys *identity.Keys, customer string, scopes ...string) []string {
	t.Helper()
	token, err := keys.Sign("order-svc", identity.Principal{Caller: "gateway-svc", Subject: customer, Scopes: scopes})
	if err != nil {
		t.Fatal(err)
	}
	return []string{"Authorization", "Bearer " + token}
}

const unnamed = `{"items": [{"sku": "tin", "quantity": 1}]}`

func TestOwner_AnothersOrder_IsNotThereOnAnyRoute(t *testing.T) {
	t.Parallel()
	b, keys := guarded(t)
	one, two := as(t, keys, "cust-01"), as(t, keys, "cust-02")
	placed := b.do(http.MethodPost, "/v1/orders", unnamed, one...)
	if placed.status != http.StatusCreated || placed.body["customer_id"] != "cust-01" {
		t.Fatalf("place: %+v", placed)
	}
	id := placed.body["order_id"].(string)
	for _, c := range []struct{ method, path string }{
		{http.MethodGet, "/v1/orders/" + id}, {http.MethodGet, "/v1/orders/" + id + "?wait=1ms"}, {http.MethodPost, "/v1/orders/" + id + "/cancel"},
	} {
		unknown := b.do(c.method, "/v1/orders/0199b1a0-0000-7000-8000-000000000001", "", two...)
		if c.method == http.MethodPost {
			unknown = b.do(c.method, "/v1/orders/0199b1a0-0000-7000-8000-000000000001/cancel", "", two...)
		}
		a := b.do(c.method, c.path, "", two...)
		if a.status != http.StatusNotFound || unknown.status != http.StatusNotFound || a.body["detail"] != "there is no order "+id {
			t.Errorf("%s %s of another: %d %v; of none: %d", c.method, c.path, a.status, a.body, unknown.status)
		}
	}
	if a := b.do(http.MethodGet, "/v1/orders/"+id, "", one...); a.status != http.StatusOK || a.body["state"] != "placed" || a.body["deadline_at"] == nil {
		t.Errorf("its owner, after another's cancel: %+v", a)
	}
	if a := b.do(http.MethodPost, "/v1/orders/"+id+"/cancel", "", one...); a.status != http.StatusOK || a.body["state"] != "cancelled" {
		t.Errorf("its owner's cancel: %+v", a)
	}
}

func TestOwner_Lists_HoldOwnOrdersAloneOnEveryPage(t *testing.T) {
	t.Parallel()
	b, keys := guarded(t)
	for i := range 7 {
		for _, customer := range []string{"cust-01", "cust-02"} {
			a := b.do(http.MethodPost, "/v1/orders", unnamed, as(t, keys, customer)...)
			if a.status != http.StatusCreated {
				t.Fatal(a)
			}
			if i%2 == 0 {
				b.do(http.MethodPost, "/v1/orders/"+a.body["order_id"].(string)+"/cancel", "", as(t, keys, customer)...)
			}
		}
	}
	pages := func(query string, who []string) (n int, customers map[string]int) {
		customers = map[string]int{}
		for after := ""; ; {
			a := b.do(http.MethodGet, "/v1/orders?limit=2"+query+after, "", who...)
			if a.status != http.StatusOK {
				t.Fatalf("%+v", a)
			}
			for _, o := range a.body["orders"].([]any) {
				customers[o.(map[string]any)["customer_id"].(string)]++
			}
			next, _ := a.body["next"].(string)
			if n++; next == "" {
				return n, customers
			}
			after = "&after=" + next
		}
	}
	for name, c := range map[string]struct {
		query string
		who   []string
		want  map[string]int
	}{
		"own":            {"", as(t, keys, "cust-01"), map[string]int{"cust-01": 7}},
		"own, by state":  {"&state=cancelled", as(t, keys, "cust-02"), map[string]int{"cust-02": 4}},
		"of none":        {"", as(t, keys, "cust-03"), map[string]int{}},
		"of nobody":      {"", as(t, keys, "nobody-at-all"), map[string]int{}},
		"a reader":       {"", as(t, keys, "cust-03", identity.ScopeRead), map[string]int{"cust-01": 7, "cust-02": 7}},
		"an operator":    {"&state=placed", as(t, keys, "", identity.ScopeOperate), map[string]int{"cust-01": 3, "cust-02": 3}},
		"nobody's asked": {"", as(t, keys, "", identity.ScopeEveryone), map[string]int{"cust-01": 7, "cust-02": 7}},
	} {
		if _, got := pages(c.query, c.who); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestOwner_PlacesForItself_OthersForWhomTheyMay(t *testing.T) {
	t.Parallel()
	b, keys := guarded(t)
	forOne := `{"customer_id": "cust-01", "items": [{"sku": "tin", "quantity": 1}]}`
	for name, c := range map[string]struct {
		body   string
		who    []string
		status int
		of     string
	}{
		"left out":                 {unnamed, as(t, keys, "cust-01"), 201, "cust-01"},
		"itself":                   {forOne, as(t, keys, "cust-01"), 201, "cust-01"},
		"another":                  {forOne, as(t, keys, "cust-02"), 403, ""},
		"a reader for another":     {forOne, as(t, keys, "cust-02", identity.ScopeRead), 403, ""},
		"an operator for another":  {forOne, as(t, keys, "cust-02", identity.ScopeOperate), 201, "cust-01"},
		"an operator for itself":   {unnamed, as(t, keys, "cust-02", identity.ScopeOperate), 201, "cust-02"},
		"an operator for nobody":   {unnamed, as(t, keys, "", identity.ScopeOperate), 422, ""},
		"nobody is asked":          {forOne, as(t, keys, "", identity.ScopeEveryone), 201, "cust-01"},
		"nobody":                   {forOne, as(t, keys, ""), 403, ""},
		"not a customer":           {unnamed, as(t, keys, "stranger"), 422, ""},
		"no name of a customer":    {unnamed, as(t, keys, "Auth|0 1"), 422, ""},
		"no token":                 {forOne, nil, 401, ""},
		"a token for another call": {forOne, []string{"Authorization", "Bearer " + foreign(t, keys)}, 401, ""},
	} {
		a := b.do(http.MethodPost, "/v1/orders", c.body, c.who...)
		if of, _ := a.body["customer_id"].(string); a.status != c.status || of != c.of {
			t.Errorf("%s: %d %v", name, a.status, a.body)
		}
	}
	reader := as(t, keys, "cust-02", identity.ScopeRead)
	one := b.do(http.MethodPost, "/v1/orders", unnamed, as(t, keys, "cust-01")...).body["order_id"].(string)
	if a := b.do(http.MethodGet, "/v1/orders/"+one, "", reader...); a.status != http.StatusOK {
		t.Errorf("a reader sees: %+v", a)
	}
	if a := b.do(http.MethodPost, "/v1/orders/"+one+"/cancel", "", reader...); a.status != http.StatusNotFound {
		t.Errorf("a reader cancels: %+v", a)
	}
	if a := b.do(http.MethodGet, "/v1/customers", "", as(t, keys, "cust-01")...); a.status != http.StatusForbidden {
		t.Errorf("a customer sees all customers: %+v", a)
	}
}

func foreign(t *testing.T, keys *identity.Keys) string {
	t.Helper()
	token, err := keys.Sign("payment-svc", identity.Principal{Caller: "gateway-svc", Subject: "cust-01", Scopes: []string{identity.ScopeOperate}})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestOwner_IdempotencyKeys_AreOfTheCustomerAndTheBody(t *testing.T) {
	t.Parallel()
	b, keys := guarded(t)
	place := func(customer, body string) answer {
		return b.do(http.MethodPost, "/v1/orders", body, append(as(t, keys, customer), "Idempotency-Key", "the-same")...)
	}
	one, again, two := place("cust-01", unnamed), place("cust-01", unnamed), place("cust-02", unnamed)
	named := place("cust-01", `{"customer_id": "cust-01", "items": [{"sku": "tin", "quantity": 1}]}`)
	if one.status != http.StatusCreated || again.status != http.StatusOK || again.body["order_id"] != one.body["order_id"] || named.body["order_id"] != one.body["order_id"] {
		t.Errorf("one: %+v; again: %+v; with its name: %+v", one, again, named)
	}
	if two.status != http.StatusCreated || two.body["order_id"] == one.body["order_id"] || two.body["customer_id"] != "cust-02" {
		t.Errorf("another customer under the same key: %+v", two)
	}
	for _, customer := range []string{"cust-01", "cust-02"} {
		if a := place(customer, `{"items": [{"sku": "tin", "quantity": 2}]}`); a.status != http.StatusUnprocessableEntity {
			t.Errorf("another body of %s: %+v", customer, a)
		}
	}
}

func TestAwait_Another_IsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	b, keys := guarded(t)
	id := b.do(http.MethodPost, "/v1/orders", unnamed, as(t, keys, "cust-01")...).body["order_id"].(string)
	begin := time.Now()
	if a := b.do(http.MethodGet, "/v1/orders/"+id+"?wait=20s", "", as(t, keys, "cust-02")...); a.status != http.StatusNotFound || time.Since(begin) > 10*time.Second {
		t.Errorf("%+v after %s", a, time.Since(begin))
	}
}
