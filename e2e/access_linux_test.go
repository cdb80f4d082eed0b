package e2e_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"pavane/internal/demo"
	"pavane/shared/identity"
)

// TestAccess holds that services take calls of services alone, and that a gateway
// which asks for tokens shows customers their own orders alone, over all services.
func TestAccess(t *testing.T) {
	t.Parallel()
	inTurn(t,
		part{"EveryRouteOfEveryService_TakesSignedCallsAlone", testSignedCalls},
		part{"CustomersWithTokens_HaveTheirOwnOrdersAlone", testOwners},
	)
}

var pathValue = regexp.MustCompile(`\{[a-z]+\}`)

func testSignedCalls(t *testing.T, u *up) {
	secret, err := os.ReadFile(filepath.Join(u.Dir, "secrets", "service-key"))
	must(t, err)
	keys, err := identity.ParseKeys(string(secret))
	must(t, err)
	gw := u.gateway()
	for _, service := range rolled() {
		addr := gw.members(t, service)[0].Addr
		direct := &demo.Gateway{Base: "http://" + addr, HTTP: &http.Client{Timeout: stopLimit}}
		call := func(method, route, callee string) demo.Answer {
			var headers []string
			if callee != "" {
				token, err := keys.Sign(callee, identity.Principal{Caller: "test", Scopes: []string{identity.ScopeRead}})
				must(t, err)
				headers = []string{"Authorization", "Bearer " + token}
			}
			a, err := direct.Do(method, route, "", headers...)
			must(t, err)
			return a
		}
		var api struct {
			Paths map[string]map[string]json.RawMessage
		}
		must(t, json.Unmarshal([]byte(call(http.MethodGet, "/openapi.json", service).Body), &api))
		if len(api.Paths) < 2 {
			t.Errorf("%s has %d paths", service, len(api.Paths))
		}
		for path, methods := range api.Paths {
			for method := range methods {
				method, route := strings.ToUpper(method), pathValue.ReplaceAllString(path, "x")
				for _, callee := range []string{"", "gateway-svc"} {
					if a := call(method, route, callee); a.Status != http.StatusUnauthorized {
						t.Errorf("%s: %s %s with a token for %q: %s", service, method, route, callee, a)
					}
				}
				if a := call(method, route, service); a.Status == http.StatusUnauthorized || a.Status >= http.StatusInternalServerError {
					t.Errorf("%s: %s %s, signed: %s", service, method, route, a)
				}
			}
		}
	}
	for _, route := range []string{"/v1/gauges", "/v1/conservation", "/v1/parked", "/v1/products"} {
		if a, err := gw.Do(http.MethodGet, route, ""); err != nil || a.Status != http.StatusOK || strings.Contains(a.Body, `"reason"`) {
			t.Errorf("%s through the gateway: %s %v", route, a, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(u.Dir, "secrets", "*"))
	must(t, err)
	for _, file := range files {
		secret, err := os.ReadFile(file)
		must(t, err)
		holdsNo(t, u, string(secret))
		if server, err := url.Parse(string(secret)); err == nil && server.User != nil {
			password, _ := server.User.Password()
			holdsNo(t, u, password)
		}
	}
}

// holdsNo demands that no log and no process's environment shows a secret.
func holdsNo(t *testing.T, u *up, secret string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(u.Dir, "logs", "*"))
	must(t, err)
	if len(logs) < len(demo.Services()) || secret == "" {
		t.Fatalf("only the logs %q, or no secret to look for", logs)
	}
	places := logs
	for _, service := range u.State().Services {
		places = append(places, fmt.Sprintf("/proc/%d/environ", service.Pid), fmt.Sprintf("/proc/%d/cmdline", service.Pid))
	}
	for _, place := range places {
		b, err := os.ReadFile(place)
		must(t, err)
		if strings.Contains(string(b), secret) {
			t.Errorf("%s shows a secret", place)
		}
	}
}

func testOwners(t *testing.T, u *up) {
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	file := filepath.Join(t.TempDir(), "jwks.json")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": %q}]}`, base64.RawURLEncoding.EncodeToString(public)), 0o600))
	_, m := u.second("gateway-svc", u.Bin, "PAVANE_HTTP_ADDR=127.0.0.1:0", "PAVANE_AUTH_JWKS_FILE="+file,
		"PAVANE_AUTH_ISSUER=https://issuer.example", "PAVANE_AUTH_AUDIENCE=pavane", "PAVANE_LOG_LEVEL=debug", "PAVANE_UPSTREAM_NETWORKS=127.0.0.0/8")
	gw := &demo.Gateway{Base: "http://" + m.Addr, HTTP: &http.Client{Timeout: stopLimit}}
	var shown []string
	as := func(customer string, scopes ...string) func(method, route, body string) demo.Answer {
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
			"iss": "https://issuer.example", "aud": "pavane", "sub": customer, "exp": time.Now().Add(time.Hour).Unix(), "scope": strings.Join(scopes, " "),
		})
		token.Header["kid"] = "k"
		text, err := token.SignedString(private)
		must(t, err)
		shown = append(shown, text)
		return func(method, route, body string) demo.Answer {
			a, err := gw.Do(method, route, body, "Authorization", "Bearer "+text, "Prefer", "wait=20", "Idempotency-Key", "one-key-for-all")
			must(t, err)
			return a
		}
	}
	one, two, reader := as("cust-01"), as("cust-02"), as("auditor", identity.ScopeRead)
	order := `{"items": [{"sku": "tin", "quantity": 1}]}`
	placed := [2]demo.Answer{one(http.MethodPost, "/v1/orders", order), two(http.MethodPost, "/v1/orders", order)}
	ids := [2]string{filepath.Base(placed[0].Header.Get("Location")), filepath.Base(placed[1].Header.Get("Location"))}
	if placed[0].Status != http.StatusCreated || placed[1].Status != http.StatusCreated || ids[0] == ids[1] {
		t.Fatalf("place: %s; %s", placed[0], placed[1])
	}
	for i, who := range []func(method, route, body string) demo.Answer{one, two} {
		own, other := "/v1/orders/"+ids[i], "/v1/orders/"+ids[1-i]
		for _, view := range []string{"", "?view=full", "/story", "/events"} { // the stream ends when the saga has
			if a := who(http.MethodGet, own+view, ""); a.Status != http.StatusOK || !strings.Contains(a.Body, ids[i]) {
				t.Errorf("own%s: %s", view, a)
			}
			if a := who(http.MethodGet, other+view, ""); a.Status != http.StatusNotFound {
				t.Errorf("another's%s: %s", view, a)
			}
			if a := reader(http.MethodGet, other+view, ""); a.Status != http.StatusOK {
				t.Errorf("a reader%s: %s", view, a)
			}
		}
		if a := who(http.MethodPost, other+"/cancel", ""); a.Status != http.StatusNotFound {
			t.Errorf("another's cancel: %s", a)
		}
		if a := who(http.MethodGet, "/v1/orders", ""); !strings.Contains(a.Body, ids[i]) || strings.Contains(a.Body, ids[1-i]) {
			t.Errorf("list: %s", a)
		}
		if a := who(http.MethodPost, "/v1/orders", demo.Body(fmt.Sprintf("cust-0%d", 2-i), "tin")); a.Status != http.StatusForbidden {
			t.Errorf("place for another: %s", a)
		}
		for _, all := range []string{"/v1/events", "/v1/conservation", "/v1/gauges", "/v1/members", "/v1/parked"} {
			if a := who(http.MethodGet, all, ""); a.Status != http.StatusForbidden {
				t.Errorf("%s: %s", all, a)
			}
			if all == "/v1/events" {
				continue // it has no end
			}
			if a := reader(http.MethodGet, all, ""); a.Status != http.StatusOK {
				t.Errorf("%s of a reader: %s", all, a)
			}
		}
	}
	redrive := `{"why": "a test"}`
	statuses := []int{one(http.MethodPost, "/v1/parked/redrive", redrive).Status, as("ada", identity.ScopeOperate)(http.MethodPost, "/v1/parked/redrive", redrive).Status}
	if !slices.Equal(statuses, []int{http.StatusForbidden, http.StatusOK}) {
		t.Errorf("redrive as customer and as operator: %v", statuses)
	}
	for _, secret := range shown {
		holdsNo(t, u, secret)
	}
}
