package gateway_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/golang-jwt/jwt/v5"

	"pavane/gateway-svc/internal/access"
	"pavane/gateway-svc/internal/gateway"
	"pavane/shared/httpapi"
	"pavane/shared/identity"
)

// issuer makes tokens that a gateway takes.
type issuer struct {
	key    ed25519.PrivateKey
	access *access.Access
}

func newIssuer(t *testing.T, c access.Config) *issuer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c.JWKSFile = filepath.Join(t.TempDir(), "jwks.json")
	keys := fmt.Sprintf(`{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "use": "sig", "x": %q}]}`, base64.RawURLEncoding.EncodeToString(public))
	if err := os.WriteFile(c.JWKSFile, []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Issuer, c.Audience, c.Logger = "https://issuer.example", "pavane", slog.New(slog.DiscardHandler)
	i := &issuer{key: private}
	if i.access, err = access.Open(c); err != nil {
		t.Fatal(err)
	}
	return i
}

// bearer is the header of a customer with scopes.
func (i *issuer) bearer(t *testing.T, customer string, scopes ...string) []string {
	t.Helper()
	return i.until(t, time.Now().Add(time.Minute), customer, scopes...)
}

func (i *issuer) until(t *testing.T, end time.Time, customer string, scopes ...string) []string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": "https://issuer.example", "aud": "pavane", "sub": customer, "exp": end.Unix(), "scope": strings.Join(scopes, " "),
	})
	token.Header["kid"] = "k"
	text, err := token.SignedString(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"Authorization", "Bearer " + text}
}

const serviceKey = "a-service-key-of-thirty-two-bytes-or-more"

func serviceKeys(t *testing.T) *identity.Keys {
	t.Helper()
	keys, err := identity.ParseKeys(serviceKey)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

// operations calls each with every operation of a gateway's OpenAPI document.
func operations(t *testing.T, url string, each func(method, path string, op map[string]any)) {
	t.Helper()
	methods := []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}
	n := 0
	for path, item := range ask(t, http.MethodGet, url+"/openapi.json", "").body["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			if slices.Contains(methods, method) {
				n++
				each(strings.ToUpper(method), placeholder.ReplaceAllString(path, "order-svc"), op.(map[string]any))
			}
		}
	}
	if n < 10 {
		t.Fatalf("the document has %d operations", n)
	}
}

func TestAccess_EveryOperationWithoutToken_Is401AndReachesNobody(t *testing.T) {
	t.Parallel()
	i, svc := newIssuer(t, access.Config{}), startService(t)
	all := at{"order-svc": {svc.addr()}, "payment-svc": {svc.addr()}, "inventory-svc": {svc.addr()}, "notification-svc": {svc.addr()}}
	url := startGateway(t, gateway.Config{Access: i.access, Keys: serviceKeys(t), Registry: all.registry(t), BreakURL: "http://127.0.0.1:1", OperatorToken: "0123456789abcdef", AsyncAPI: []byte("{}")})
	operations(t, url, func(method, path string, op map[string]any) {
		a := ask(t, method, url+path, "")
		if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s %s: %d", method, path, a.status)
		}
		responses := op["responses"].(map[string]any)
		for _, code := range []string{"401", "403", "429"} {
			if responses[code] == nil {
				t.Errorf("%s %s does not declare %s", method, path, code)
			}
		}
		if len(op["security"].([]any)) == 0 {
			t.Errorf("%s %s declares no security", method, path)
		}
	})
	for _, path := range []string{"/v1/break/faults", "/v1/nothing", "/other", "/page", "/docs/x", "//livez", "/livez/"} {
		if a := ask(t, http.MethodGet, url+path, ""); a.status != http.StatusUnauthorized {
			t.Errorf("%s, which is no operation: %d", path, a.status)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/openapi.json", "/asyncapi.json", "/", "/docs"} {
		if a := ask(t, http.MethodGet, url+path, ""); a.status != http.StatusOK {
			t.Errorf("%s, which is for everybody: %d", path, a.status)
		}
	}
	if svc.count() > 0 {
		t.Errorf("%d requests without a token reached a service", svc.count())
	}
}

// TestAccess_EveryOperation_TakesTheScopeItIsFor lists what a customer may do
// without any scope. All else takes one, so a new operation that forgets to say
// for whom it is fails here.
func TestAccess_EveryOperation_TakesTheScopeItIsFor(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, access.Config{})
	url := startGateway(t, gateway.Config{Access: i.access, Keys: serviceKeys(t)})
	customers := []string{"place-order", "cancel-order", "get-order", "list-orders", "list-products", "get-order-story", "stream-order-events"}
	operators := []string{"redrive-parked"}
	operations(t, url, func(method, path string, op map[string]any) {
		id := op["operationId"].(string)
		body := map[string]string{
			"place-order": `{"items": [{"sku": "tin", "quantity": 1}]}`, "redrive-parked": `{"why": "a test"}`,
		}[id]
		for name, who := range map[string]struct {
			scopes  []string
			refused bool
		}{
			"customer": {nil, !slices.Contains(customers, id)},
			"reader":   {[]string{identity.ScopeRead}, slices.Contains(operators, id)},
			"operator": {[]string{identity.ScopeOperate}, false},
		} {
			a := ask(t, method, url+path, body, i.bearer(t, "cust-01", who.scopes...)...)
			if (a.status == http.StatusForbidden) != who.refused || a.status == http.StatusUnauthorized {
				t.Errorf("%s as %s: %d %s", id, name, a.status, a.text)
			}
			if op["responses"].(map[string]any)[fmt.Sprint(a.status)] == nil {
				t.Errorf("%s as %s: %d is not declared", id, name, a.status)
			}
		}
	})
}

// owned is an order-svc that knows one order, of cust-01, and looks at for whom a
// call is as the real one does.
func owned(t *testing.T) *fakeService {
	t.Helper()
	keys, svc := serviceKeys(t), startService(t)
	svc.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p, err := keys.Verify("order-svc", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		switch {
		case err != nil || p.Caller != "gateway-svc":
			answer(w, http.StatusUnauthorized, `{"detail": "who is it?"}`)
		case strings.HasPrefix(r.URL.Path, "/v1/story/"):
			answer(w, http.StatusOK, `{"written": [{"id": "e1", "kind": "order.placed.v1", "sequence": 1, "topic": "t", "data": {}}]}`)
		case p.Subject == "cust-01" || p.SeesAll():
			answer(w, http.StatusOK, `{"order_id": "o-1", "customer_id": "cust-01", "state": "placed", "version": 1}`)
		default:
			answer(w, http.StatusNotFound, `{"detail": "there is no order o-1"}`)
		}
	})
	return svc
}

func TestAccess_AnothersOrder_IsNotThereInAnyView(t *testing.T) {
	t.Parallel()
	i, orders, payments := newIssuer(t, access.Config{}), owned(t), startService(t)
	payments.on("/", http.StatusOK, `{"state": "captured", "written": []}`)
	url := startGateway(t, gateway.Config{
		Access: i.access, Keys: serviceKeys(t), Log: startLog(t),
		Registry: at{"order-svc": {orders.addr()}, "payment-svc": {payments.addr()}, "inventory-svc": {payments.addr()}, "notification-svc": {payments.addr()}}.registry(t),
	})
	mine, other, reader := i.bearer(t, "cust-01"), i.bearer(t, "cust-02"), i.bearer(t, "cust-02", identity.ScopeRead)
	for _, c := range []struct{ method, path string }{
		{http.MethodGet, "/v1/orders/o-1"},
		{http.MethodGet, "/v1/orders/o-1?view=full"},
		{http.MethodGet, "/v1/orders/o-1/story"},
		{http.MethodPost, "/v1/orders/o-1/cancel"},
		{http.MethodGet, "/v1/orders/o-1/events"},
	} {
		before := payments.count()
		if a := ask(t, c.method, url+c.path, "", other...); a.status != http.StatusNotFound || strings.Contains(a.text, "captured") {
			t.Errorf("%s %s of another: %d %s", c.method, c.path, a.status, a.text)
		}
		if payments.count() != before {
			t.Errorf("%s %s of another asked the other services", c.method, c.path)
		}
		if strings.HasSuffix(c.path, "/events") {
			continue // it has no end
		}
		for name, who := range map[string][]string{"the owner": mine, "a reader": reader} {
			if a := ask(t, c.method, url+c.path, "", who...); a.status != http.StatusOK {
				t.Errorf("%s %s of %s: %d %s", c.method, c.path, name, a.status, a.text)
			}
		}
	}
}

func TestAccess_OrderSvcAway_ShowsNothingToWhoMaySeeOwnOrdersAlone(t *testing.T) {
	t.Parallel()
	i, payments := newIssuer(t, access.Config{}), startService(t)
	payments.on("/", http.StatusOK, `{"state": "captured", "written": []}`)
	url := startGateway(t, gateway.Config{
		Access: i.access, Keys: serviceKeys(t), Log: startLog(t),
		Registry: at{"order-svc": {deadAddr(t)}, "payment-svc": {payments.addr()}, "inventory-svc": {payments.addr()}, "notification-svc": {payments.addr()}}.registry(t),
	})
	for _, path := range []string{"/v1/orders/o-1?view=full", "/v1/orders/o-1/story", "/v1/orders/o-1/events"} {
		if a := ask(t, http.MethodGet, url+path, "", i.bearer(t, "cust-01")...); a.status != http.StatusServiceUnavailable || payments.count() > 0 {
			t.Errorf("%s: %d %s", path, a.status, a.text)
		}
	}
	if a := ask(t, http.MethodGet, url+"/v1/orders/o-1?view=full", "", i.bearer(t, "x", identity.ScopeRead)...); a.status != http.StatusOK {
		t.Errorf("a reader gets what there is: %d", a.status)
	}
}

func TestAccess_TokenEnds_EndsTheStream(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, access.Config{})
	url := startGateway(t, gateway.Config{Access: i.access, Keys: serviceKeys(t), Log: startLog(t)})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	// Its exp is over and the leeway of 5 s is not: it is taken, for as long.
	r.Header.Set("Authorization", i.until(t, time.Now().Add(-2*time.Second), "cust-01", identity.ScopeRead)[1])
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines, live := bufio.NewScanner(res.Body), false
	for lines.Scan() { // it ends by itself, or the test by its time
		live = live || lines.Text() == ": live"
	}
	if res.StatusCode != http.StatusOK || !live {
		t.Errorf("the stream: %s, live: %v", res.Status, live)
	}
}

func TestUpstream_CallsAreSigned_AndCarryNothingOfTheClients(t *testing.T) {
	t.Parallel()
	i, orders := newIssuer(t, access.Config{}), owned(t)
	url := startGateway(t, gateway.Config{Access: i.access, Keys: serviceKeys(t), Registry: at{"order-svc": {orders.addr()}}.registry(t)})
	shown := i.bearer(t, "cust-01", identity.ScopeOperate)
	if a := ask(t, http.MethodGet, url+"/v1/orders/o-1", "", shown...); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.text)
	}
	p, err := serviceKeys(t).Verify("order-svc", strings.TrimPrefix(orders.hits[0].Header.Get("Authorization"), "Bearer "))
	if err != nil || p.Caller != "gateway-svc" || p.Subject != "cust-01" || !slices.Equal(p.Scopes, []string{identity.ScopeOperate}) {
		t.Errorf("%+v, %v", p, err)
	}
	for name, values := range orders.hits[0].Header {
		if slices.Contains(values, shown[1]) {
			t.Errorf("the client's token went on as %s", name)
		}
	}
}

// operated is payment-svc, which asks who calls and for what as the real one
// does, and lets operators alone redrive.
func operated(t *testing.T) *fakeService {
	t.Helper()
	s := httpapi.New(httpapi.Config{Title: "payment-svc", Version: "1.0.0", Logger: slog.New(slog.DiscardHandler)})
	s.ForServices("payment-svc", serviceKeys(t))
	httpapi.Register(s, huma.Operation{
		OperationID: "redrive", Method: http.MethodPost, Path: "/v1/parked/redrive", Middlewares: s.ForOperators(operatorToken),
	}, func(context.Context, *struct{}) (*struct{ Body gateway.Moved }, error) {
		return &struct{ Body gateway.Moved }{Body: gateway.Moved{Keys: 2}}, nil
	})
	svc := startService(t)
	svc.mux.Handle("/", s.Handler())
	return svc
}

func TestRedrive_CallsAreSigned_AndCarryNothingOfTheOperators(t *testing.T) {
	t.Parallel()
	i, payments := newIssuer(t, access.Config{OperatorToken: operatorToken}), operated(t)
	registry := at{"payment-svc": {payments.addr()}}.registry(t)
	for name, c := range map[string]struct {
		access *access.Access // nil: nobody is asked for a token
		shown  []string
	}{
		"the scope":                       {i.access, i.bearer(t, "ops-01", identity.ScopeOperate)},
		"the operator's token":            {i.access, []string{httpapi.OperatorHeader, operatorToken}},
		"both":                            {i.access, append(i.bearer(t, "ops-01"), httpapi.OperatorHeader, operatorToken)},
		"the operator's token, no access": {nil, []string{httpapi.OperatorHeader, operatorToken}},
	} {
		url := startGateway(t, gateway.Config{Access: c.access, Keys: serviceKeys(t), Registry: registry, OperatorToken: operatorToken})
		before := payments.count()
		a := ask(t, http.MethodPost, url+"/v1/parked/redrive", `{"service":"payment-svc","why":"mended"}`, c.shown...)
		if a.status != http.StatusOK || a.body["keys"] != 2.0 || payments.count() != before+1 {
			t.Fatalf("%s: %d %s", name, a.status, a.text)
		}
		for header, values := range payments.hits[before].Header {
			for _, secret := range []string{operatorToken, c.shown[1]} {
				if strings.Contains(strings.Join(values, " "), secret) {
					t.Errorf("%s: a secret of the operator went on as %s", name, header)
				}
			}
			if header == httpapi.OperatorHeader {
				t.Errorf("%s: %s went on, %q", name, header, values)
			}
		}
	}
}

func TestUpstream_ServiceRefusesTheCall_IsNoFaultOfTheClient(t *testing.T) {
	t.Parallel()
	orders := owned(t)
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {orders.addr()}}.registry(t)}) // it has no key
	if a := ask(t, http.MethodGet, url+"/v1/orders/o-1", ""); a.status != http.StatusBadGateway || !strings.Contains(a.detail(), "service key") {
		t.Errorf("%d %s", a.status, a.text)
	}
}

func TestUpstream_OutsideOfTheNetworks_IsNeverDialled(t *testing.T) {
	t.Parallel()
	svc := startService(t).on("GET /v1/orders/o-1", http.StatusOK, `{"order_id": "o-1", "state": "placed", "version": 1}`)
	_, port, _ := strings.Cut(svc.addr(), ":")
	for name, c := range map[string]struct {
		networks, addr string
		want           int
	}{
		"inside":          {"127.0.0.0/8", svc.addr(), http.StatusOK},
		"outside":         {"10.0.0.0/8", svc.addr(), http.StatusServiceUnavailable},
		"a name, inside":  {"127.0.0.0/8", "localhost:" + port, http.StatusOK},
		"a name, outside": {"10.0.0.0/8", "localhost:" + port, http.StatusServiceUnavailable},
	} {
		before := svc.count()
		url := startGateway(t, gateway.Config{Networks: []netip.Prefix{netip.MustParsePrefix(c.networks)}, Registry: at{"order-svc": {c.addr}}.registry(t)})
		if a := ask(t, http.MethodGet, url+"/v1/orders/o-1", ""); a.status != c.want || svc.count()-before > 0 != (c.want == http.StatusOK) {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
}

func TestUpstream_Redirects_AreNotFollowed(t *testing.T) {
	t.Parallel()
	target := startService(t).on("/", http.StatusOK, `{"order_id": "o-1", "state": "placed", "version": 1}`)
	svc := startService(t)
	svc.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
	})
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {svc.addr()}, "payment-svc": {svc.addr()}}.registry(t)})
	for _, path := range []string{"/v1/orders/o-1", "/v1/gauges", "/v1/conservation", "/v1/orders/o-1/story"} {
		ask(t, http.MethodGet, url+path, "")
	}
	if a := ask(t, http.MethodGet, url+"/v1/orders/o-1", ""); a.status != http.StatusBadGateway || target.count() > 0 {
		t.Errorf("%d %s; the target was asked %d times", a.status, a.text, target.count())
	}
}
