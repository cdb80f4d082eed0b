package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/migrations"
	"pavane/order-svc/internal/api"
	"pavane/order-svc/internal/order"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/httpapi"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

type bench struct {
	t      *testing.T
	ctx    context.Context
	db     *postgres.DB
	outbox *outbox.Outbox
	orders *order.Service
	url    string
}

func setup(t *testing.T) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	b := &bench{t: t, ctx: ctx, db: pgtest.WithKit(t, migrations.Order())}
	var err error
	if b.outbox, err = outbox.New(outbox.Config{Source: "/order-svc", Topics: contract.Topics()}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	b.orders = order.New(order.Config{DB: b.db, Outbox: b.outbox, Logger: log, Deadline: time.Minute})
	if err := b.orders.Seed(ctx); err != nil {
		t.Fatal(err)
	}
	srv := httpapi.New(httpapi.Config{Title: "order-svc", Version: "1.0.0", Logger: log})
	api.Register(srv, b.orders)
	ts := httptest.NewServer(srv.Handler())
	t.Cleanup(ts.Close)
	b.url = ts.URL
	return b
}

// answer is what came back; body is decoded JSON.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

func (b *bench) do(method, path, body string, header ...string) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.ctx, method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(res.Body); err != nil {
		b.t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header}
	if err := json.Unmarshal(raw.Bytes(), &a.body); err != nil {
		b.t.Fatalf("%s %s: %d: %s: %v", method, path, res.StatusCode, &raw, err)
	}
	return a
}

func (b *bench) rows() (n int) {
	b.t.Helper()
	err := b.db.Read(b.ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		return tx.GetContext(ctx, &n, `select (select count(*) from orders) + (select count(*) from outbox)
+ (select count(*) from idempotency) + (select count(*) from deadlines)`)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *bench) confirm(id string) {
	b.t.Helper()
	o, err := b.orders.Get(b.ctx, id, order.Anybody)
	if err == nil {
		err = b.db.InTx(b.ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			var events []event.Numbered
			if events, err = b.orders.Confirm(ctx, tx, contract.PaymentAuthorized{OrderID: id, Amount: o.Total}); err != nil {
				return err
			}
			return b.outbox.Append(ctx, tx, events...)
		})
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

const good = `{"customer_id": "cust-01", "items": [{"sku": "mug-red", "quantity": 2}]}`

func TestPlace_GoodRequest_AnswersTheOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.do("POST", "/v1/orders", good)
	id, _ := a.body["order_id"].(string)
	if a.status != 201 || id == "" || a.header.Get("Location") != "/v1/orders/"+id || a.header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("got %d, %v, %v", a.status, a.header, a.body)
	}
	want := map[string]any{
		"order_id": id, "customer_id": "cust-01", "state": "placed", "payment_method": "wallet", "version": 1.0,
		"items":     []any{map[string]any{"sku": "mug-red", "quantity": 2.0, "unit_price": 1250.0}},
		"total":     map[string]any{"amount": 2500.0, "currency": "EUR"},
		"effects":   map[string]any{"captured": false, "voided": false, "shipped": false, "released": false},
		"placed_at": a.body["placed_at"],
	}
	if fmt.Sprint(a.body) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", a.body, want)
	}
	got := b.do("GET", "/v1/orders/"+id, "")
	want["deadline_at"] = got.body["deadline_at"]
	if got.body["deadline_at"] == nil || got.status != 200 || fmt.Sprint(got.body) != fmt.Sprint(want) {
		t.Errorf("read back %d, %v", got.status, got.body)
	}
}

func TestPlace_BadInput_SaysWhatToMendAndLeavesNoRow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	item := func(s string) string { return `{"customer_id": "cust-01", "items": [` + s + `]}` }
	many := strings.TrimSuffix(strings.Repeat(`{"sku": "tin", "quantity": 1},`, 101), ",")
	for _, c := range []struct {
		name, body string
		header     []string
		status     int
		says       string // somewhere in the problem
	}{
		{name: "no body", body: "", status: 400, says: "body is required"},
		{name: "not JSON", body: "{", status: 400, says: "not well-formed"},
		{name: "two values", body: good + good, status: 400, says: "not well-formed"},
		{name: "wrong content type", body: good, header: []string{"Content-Type", "text/plain"}, status: 415, says: "application/json"},
		{name: "too large", body: `{"x": "` + strings.Repeat("x", 1<<20) + `"}`, status: 413, says: "smaller"},
		{name: "array", body: "[]", status: 422, says: "expected object"},
		{name: "no items", body: item(""), status: 422, says: "body.items"},
		{name: "items null", body: `{"customer_id": "cust-01", "items": null}`, status: 422, says: "1 to 100 items"},
		{name: "too many items", body: item(many), status: 422, says: "body.items"},
		{name: "no customer", body: `{"items": [{"sku": "tin", "quantity": 1}]}`, status: 422, says: "customer_id"},
		{name: "unknown field", body: item(`{"sku": "tin", "quantity": 1, "unit_price": 1}`), status: 422, says: "unexpected property"},
		{name: "unknown field above", body: strings.Replace(good, "{", `{"state": "confirmed", `, 1), status: 422, says: "unexpected property"},
		{name: "no quantity", body: item(`{"sku": "tin"}`), status: 422, says: "quantity"},
		{name: "zero", body: item(`{"sku": "tin", "quantity": 0}`), status: 422, says: ">= 1"},
		{name: "negative", body: item(`{"sku": "tin", "quantity": -3}`), status: 422, says: ">= 1"},
		{name: "too much", body: item(`{"sku": "tin", "quantity": 1001}`), status: 422, says: "<= 1000"},
		{name: "overflow", body: item(`{"sku": "tin", "quantity": 9223372036854775808}`), status: 422, says: "<= 1000"},
		{name: "huge", body: item(`{"sku": "tin", "quantity": 1e300}`), status: 422, says: "<= 1000"},
		{name: "fraction", body: item(`{"sku": "tin", "quantity": 1.5}`), status: 422, says: "integer"},
		{name: "text", body: item(`{"sku": "tin", "quantity": "1"}`), status: 422, says: "integer"},
		{name: "unknown product", body: item(`{"sku": "none", "quantity": 1}`), status: 422, says: "/v1/products"},
		{name: "malformed sku", body: item(`{"sku": "a\u0000b", "quantity": 1}`), status: 422, says: "malformed"},
		{name: "product twice", body: item(`{"sku": "tin", "quantity": 1}, {"sku": "tin", "quantity": 2}`), status: 422, says: "twice"},
		{name: "unknown customer", body: strings.Replace(good, "cust-01", "cust-99", 1), status: 422, says: "/v1/customers"},
		{name: "foreign currency", body: strings.Replace(good, "{", `{"currency": "USD", `, 1), status: 422, says: "order it in EUR"},
		{name: "malformed currency", body: strings.Replace(good, "{", `{"currency": "eur", `, 1), status: 422, says: "currency"},
		{name: "unknown method", body: strings.Replace(good, "{", `{"payment_method": "shells", `, 1), status: 422, says: "wallet"},
		{name: "key not closed", body: good, header: []string{"Idempotency-Key", `"abc`}, status: 422, says: "Idempotency-Key"},
		{name: "key empty", body: good, header: []string{"Idempotency-Key", `""`}, status: 422, says: "Idempotency-Key"},
		{name: "key with parameters", body: good, header: []string{"Idempotency-Key", `"abc";a=1`}, status: 422, says: "Idempotency-Key"},
		{name: "key with space", body: good, header: []string{"Idempotency-Key", "a b"}, status: 422, says: "visible"},
		{name: "key too long", body: good, header: []string{"Idempotency-Key", strings.Repeat("k", 256)}, status: 422, says: "255"},
	} {
		a := b.do("POST", "/v1/orders", c.body, c.header...)
		problem, err := json.Marshal(a.body)
		if err != nil {
			t.Fatal(err)
		}
		var plain bytes.Buffer
		enc := json.NewEncoder(&plain)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(a.body); err != nil {
			t.Fatal(err)
		}
		if a.status != c.status || a.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(plain.String(), c.says) {
			t.Errorf("%s: %d, want %d with %q: %s", c.name, a.status, c.status, c.says, problem)
		}
		if n := b.rows(); n != 0 {
			t.Fatalf("%s left %d rows", c.name, n)
		}
	}
}

func TestPlace_SameKey_AnswersTheSameOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.do("POST", "/v1/orders", good, "Idempotency-Key", `"a\"b"`)
	for _, key := range []string{`"a\"b"`, `a"b`} {
		again := b.do("POST", "/v1/orders", "  "+good, "Idempotency-Key", key)
		if again.status != 200 || again.header.Get("Idempotency-Replayed") != "true" || fmt.Sprint(again.body) != fmt.Sprint(first.body) {
			t.Errorf("%s: %d, %v, %v; first %v", key, again.status, again.header, again.body, first.body)
		}
	}
	other := b.do("POST", "/v1/orders", strings.Replace(good, "2", "3", 1), "Idempotency-Key", `a"b`)
	if other.status != 422 || b.rows() != 4 {
		t.Errorf("other body: %d, %v, %d rows", other.status, other.body, b.rows())
	}
}

func TestCancel_AnswersByState(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := b.do("POST", "/v1/orders", good).body["order_id"].(string)
	for range 2 {
		if a := b.do("POST", "/v1/orders/"+one+"/cancel", ""); a.status != 200 || a.body["state"] != "cancelled" || a.body["reason"] != "customer" {
			t.Errorf("cancel: %d, %v", a.status, a.body)
		}
	}
	two := b.do("POST", "/v1/orders", good).body["order_id"].(string)
	b.confirm(two)
	if a := b.do("POST", "/v1/orders/"+two+"/cancel", ""); a.status != 409 || !strings.Contains(fmt.Sprint(a.body["detail"]), "confirmed already") {
		t.Errorf("cancel a confirmed order: %d, %v", a.status, a.body)
	}
	for _, id := range []string{"0199b1a0-0000-7000-8000-000000000001", "nonsense", "%00", "%7B0199b1a0-0000-7000-8000-000000000001%7D"} {
		if a := b.do("POST", "/v1/orders/"+id+"/cancel", ""); a.status != 404 {
			t.Errorf("cancel %q: %d, %v", id, a.status, a.body)
		}
	}
}

func TestGet_Wait_AnswersWhenDecidedOrWhenTheTimeIsOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.do("POST", "/v1/orders", good).body["order_id"].(string)
	if a := b.do("GET", "/v1/orders/"+id+"?wait=1ms", ""); a.status != 200 || a.body["state"] != "placed" || a.body["deadline_at"] == nil {
		t.Errorf("after 1ms: %d, %v", a.status, a.body)
	}
	decided := make(chan answer, 1)
	go func() { decided <- b.do("GET", "/v1/orders/"+id+"?wait=20s", "") }()
	b.confirm(id)
	if a := <-decided; a.status != 200 || a.body["state"] != "confirmed" || a.body["decided_at"] == nil || a.body["deadline_at"] != nil {
		t.Errorf("decided: %d, %v", a.status, a.body)
	}
	for _, wait := range []string{"31s", "-1s", "soon", "5"} {
		if a := b.do("GET", "/v1/orders/"+id+"?wait="+wait, ""); a.status != 422 {
			t.Errorf("wait=%s: %d, %v", wait, a.status, a.body)
		}
	}
}

func TestList_Pages_HoldEveryOrderOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var placed, listed []string
	for range 5 {
		placed = append(placed, b.do("POST", "/v1/orders", good).body["order_id"].(string))
	}
	slices.Reverse(placed)
	for path := "/v1/orders?limit=2"; ; {
		a := b.do("GET", path, "")
		for _, o := range a.body["orders"].([]any) {
			listed = append(listed, o.(map[string]any)["order_id"].(string))
		}
		next, more := a.body["next"].(string)
		if !more {
			break
		}
		path = "/v1/orders?limit=2&after=" + next
	}
	if !slices.Equal(placed, listed) {
		t.Errorf("placed %v\nlisted %v", placed, listed)
	}
	if a := b.do("GET", "/v1/orders?state=confirmed", ""); len(a.body["orders"].([]any)) != 0 {
		t.Errorf("confirmed ones: %v", a.body)
	}
	for _, query := range []string{"limit=0", "limit=201", "limit=x", "after=x", "after=%00", "after=urn:uuid:0199b1a0-0000-7000-8000-000000000001", "state=lost"} {
		if a := b.do("GET", "/v1/orders?"+query, ""); a.status != 422 {
			t.Errorf("%s: %d, %v", query, a.status, a.body)
		}
	}
}

func TestCatalogue_ListsProductsAndCustomers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	products := b.do("GET", "/v1/products", "").body["products"].([]any)
	if want := "map[name:Butter biscuits price:map[amount:420 currency:EUR] sku:biscuits]"; len(products) != 12 || fmt.Sprint(products[0]) != want {
		t.Errorf("products %v", products)
	}
	customers := b.do("GET", "/v1/customers", "").body["customers"].([]any)
	if want := "map[customer_id:cust-01 email:cust-01@example.test name:Ada Aldwin]"; len(customers) != 20 || fmt.Sprint(customers[0]) != want {
		t.Errorf("customers %v", customers)
	}
}
