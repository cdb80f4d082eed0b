package e2e_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"pavane/internal/demo"
)

// bad is a request that must be refused, and what the answer must speak of.
type bad struct {
	name, body string
	headers    []string
	status     int
	names      string // pattern
}

func items(list string) string { return `{"customer_id":"cust-01","items":[` + list + `]}` }

func badRequests() []bad {
	good := body(wealthy, "tin")
	return []bad{
		{name: "no JSON", body: `{"customer_id"`, status: 400, names: "JSON"},
		{name: "unknown field", body: `{"customer_id":"cust-01","items":[{"sku":"tin","quantity":1}],"status":"confirmed"}`, status: 422, names: "status"},
		{name: "price from outside", body: items(`{"sku":"tin","quantity":1,"unit_price":1}`), status: 422, names: "unit_price"},
		{name: "no items", body: items(``), status: 422, names: "items"},
		{name: "items missing", body: `{"customer_id":"cust-01"}`, status: 422, names: "items"},
		{name: "null items", body: `{"customer_id":"cust-01","items":null}`, status: 422, names: "items"},
		{name: "quantity 0", body: items(`{"sku":"tin","quantity":0}`), status: 422, names: "quantity"},
		{name: "quantity -1", body: items(`{"sku":"tin","quantity":-1}`), status: 422, names: "quantity"},
		{name: "quantity 1001", body: items(`{"sku":"tin","quantity":1001}`), status: 422, names: "1000"},
		{name: "quantity of the largest int64", body: items(`{"sku":"tin","quantity":9223372036854775807}`), status: 422, names: "quantity"},
		{name: "quantity over int64", body: items(`{"sku":"tin","quantity":9223372036854775808}`), status: 422, names: "quantity"},
		{name: "quantity 1e400", body: items(`{"sku":"tin","quantity":1e400}`), names: "quantity|JSON"},
		{name: "quantity 1.5", body: items(`{"sku":"tin","quantity":1.5}`), status: 422, names: "quantity"},
		{name: "quantity as text", body: items(`{"sku":"tin","quantity":"1"}`), status: 422, names: "quantity"},
		{name: "the same sku twice", body: items(`{"sku":"tin","quantity":1},{"sku":"tin","quantity":1}`), status: 422, names: "twice"},
		{name: "unknown product", body: items(`{"sku":"no-such-thing","quantity":1}`), status: 422, names: "no-such-thing"},
		{name: "malformed product", body: items(`{"sku":"a b'; drop table","quantity":1}`), status: 422, names: "sku"},
		{name: "product with a zero byte", body: items(`{"sku":"tin\u0000","quantity":1}`), status: 422, names: "sku"},
		{name: "unknown customer", body: `{"customer_id":"nobody","items":[{"sku":"tin","quantity":1}]}`, status: 422, names: "nobody"},
		{name: "customer of another type", body: `{"customer_id":7,"items":[{"sku":"tin","quantity":1}]}`, status: 422, names: "customer_id"},
		{name: "foreign currency", body: `{"customer_id":"cust-01","currency":"USD","items":[{"sku":"tin","quantity":1}]}`, status: 422, names: "EUR"},
		{name: "no currency", body: `{"customer_id":"cust-01","currency":"euro","items":[{"sku":"tin","quantity":1}]}`, status: 422, names: "currency"},
		{name: "unknown payment method", body: `{"customer_id":"cust-01","payment_method":"barter","items":[{"sku":"tin","quantity":1}]}`, status: 422, names: "payment_method"},
		{name: "body over the limit", body: items(`{"sku":"` + strings.Repeat("x", 2<<20) + `","quantity":1}`), status: 413, names: "smaller"},
		{name: "101 items", body: items(strings.TrimSuffix(strings.Repeat(`{"sku":"tin","quantity":1},`, 101), ",")), status: 422, names: "items"},
		{name: "deep nesting", body: strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), names: "."},
		{name: "content type text", body: good, headers: []string{"Content-Type", "text/plain"}, status: 415, names: "application/json"},
		{name: "content type xml", body: good, headers: []string{"Content-Type", "application/xml"}, status: 415, names: "application/json"},
		{name: "key too long", body: good, headers: []string{"Idempotency-Key", strings.Repeat("k", 300)}, names: "(?i)key"},
		{name: "key with a tab", body: good, headers: []string{"Idempotency-Key", "not\tvisible"}, names: "(?i)key"},
		{name: "key with a space", body: good, headers: []string{"Idempotency-Key", "two words"}, names: "(?i)key"},
		{name: "key that is not closed", body: good, headers: []string{"Idempotency-Key", `"open`}, names: "(?i)key"},
		{name: "empty quoted key", body: good, headers: []string{"Idempotency-Key", `""`}, names: "(?i)key"},
		{name: "key of other letters", body: good, headers: []string{"Idempotency-Key", "schlüssel"}, names: "(?i)key"},
	}
}

// refused checks one answer.
func (b bad) refused(t *testing.T, a demo.Answer) {
	t.Helper()
	switch {
	case a.Status < 400 || a.Status > 499 || b.status != 0 && a.Status != b.status:
		t.Errorf("%s: answered %s; want status %d", b.name, a, b.status)
		return
	case a.Header.Get("Content-Type") != "application/problem+json":
		t.Errorf("%s: answered as %q", b.name, a.Header.Get("Content-Type"))
	}
	var problem struct {
		Title, Detail string
		Status        int
		Errors        []struct{ Message, Location string }
	}
	if err := json.Unmarshal([]byte(a.Body), &problem); err != nil || problem.Status != a.Status || problem.Title == "" || problem.Detail == "" {
		t.Errorf("%s: is no problem that says what to mend: %s", b.name, a)
		return
	}
	said := problem.Detail
	for _, e := range problem.Errors {
		said += " " + e.Location + " " + e.Message
	}
	if !regexp.MustCompile(b.names).MatchString(said) {
		t.Errorf("%s: does not speak of %q: %s", b.name, b.names, said)
	}
}

// testBadInput needs a demo in which nothing happens beside it.
func testBadInput(t *testing.T, u *up) {
	u.quiet()
	gw, before := u.gateway(), u.content()
	for _, b := range badRequests() {
		headers := b.headers
		if len(headers) == 0 || headers[0] != "Idempotency-Key" {
			headers = append([]string{"Idempotency-Key", "bad-" + b.name[:2]}, headers...)
		}
		a, err := gw.Do(http.MethodPost, "/v1/orders", b.body, headers...)
		if err != nil {
			t.Errorf("%s: %v", b.name, err)
			continue
		}
		b.refused(t, a)
	}
	for route, status := range map[string]int{
		"/v1/orders/no-such-order":                        404,
		"/v1/orders/01a20698-89bd-7149-9061-edf8ee368a46": 404,
		"/v1/orders/%00":                                  422,
		"/v1/orders/x%27%20or%201=1":                      422,
		"/v1/orders?limit=0":                              422,
		"/v1/orders?state=lost":                           422,
		"/v1/nothing":                                     404,
		"/v1/orders/01a20698-89bd-7149-9061-edf8ee368a46?view=half": 422,
	} {
		a, err := gw.Do(http.MethodGet, route, "")
		must(t, err)
		bad{name: "GET " + route, status: status, names: "."}.refused(t, a)
	}
	a, err := gw.Do(http.MethodPost, "/v1/orders/01a20698-89bd-7149-9061-edf8ee368a46/cancel", "")
	must(t, err)
	bad{name: "cancel an unknown order", status: 404, names: "."}.refused(t, a)
	u.quiet()
	if diff := before.changed(u.content()); diff != "" {
		t.Errorf("refused requests left something:\n%s", diff)
	}
}
