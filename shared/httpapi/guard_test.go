package httpapi_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/httpapi"
	"pavane/shared/identity"
)

const guardKey = "a-service-key-of-thirty-two-bytes-or-more"

// guarded serves an API behind ForServices; an empty key is none.
func guarded(t *testing.T, key string) (url string, metrics *prometheus.Registry) {
	t.Helper()
	keys, err := identity.ParseKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	metrics = prometheus.NewRegistry()
	s := httpapi.New(httpapi.Config{Title: "b", Version: "1", Logger: slog.New(slog.DiscardHandler), Registry: metrics})
	s.ForServices("b-svc", keys)
	type who struct {
		Body struct {
			Subject string `json:"subject"`
		}
	}
	h := func(ctx context.Context, _ *struct{}) (*who, error) {
		p, _ := identity.From(ctx)
		out := &who{}
		out.Body.Subject = p.Subject
		return out, nil
	}
	httpapi.Register(s, huma.Operation{OperationID: "who", Method: http.MethodGet, Path: "/v1/who"}, h)
	httpapi.Register(s, huma.Operation{OperationID: "operate", Method: http.MethodGet, Path: "/v1/operate", Middlewares: s.ForOperators("0123456789abcdef")}, h)
	httpapi.Register(s, huma.Operation{
		OperationID: "all", Method: http.MethodGet, Path: "/v1/all", Middlewares: s.For(identity.Principal.SeesAll, "not for you"),
	}, h)
	ts := httptest.NewServer(s.Handler())
	t.Cleanup(ts.Close)
	return ts.URL, metrics
}

func fetch(t *testing.T, url, authorization string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

func call(t *testing.T, callee string, p identity.Principal) string {
	t.Helper()
	keys, err := identity.ParseKeys(guardKey)
	if err != nil {
		t.Fatal(err)
	}
	p.Caller = "a-svc"
	token, err := keys.Sign(callee, p)
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + token
}

func TestForServices_WithAKey_TakesSignedCallsAlone(t *testing.T) {
	t.Parallel()
	url, metrics := guarded(t, guardKey)
	good := call(t, "b-svc", identity.Principal{Subject: "cust-01"})
	for name, authorization := range map[string]string{
		"none": "", "for another service": call(t, "c-svc", identity.Principal{}), "garbage": "Bearer x", "basic": "Basic x", "cut": good[:len(good)-3],
	} {
		for _, path := range []string{"/v1/who", "/openapi.json", "/v1/nothing", "/", "/livez/"} {
			status, body, header := fetch(t, url+path, authorization)
			if status != http.StatusUnauthorized || !strings.HasPrefix(header.Get("WWW-Authenticate"), "Bearer") || strings.Contains(body, "cust-01") {
				t.Errorf("%s, %s: %d %s", name, path, status, body)
			}
		}
	}
	if status, body, _ := fetch(t, url+"/v1/who", good); status != http.StatusOK || !strings.Contains(body, `"subject":"cust-01"`) {
		t.Errorf("a signed call: %d %s", status, body)
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		if status, _, _ := fetch(t, url+path, ""); status != http.StatusOK {
			t.Errorf("%s, which is open: %d", path, status)
		}
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	routes := map[string]bool{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				routes[l.GetValue()] = true
			}
		}
	}
	if !routes["GET /v1/who"] { // a guard hands a request of its own on
		t.Errorf("requests behind a guard are not counted under their route: %v", routes)
	}
}

func TestForServices_Scopes_OpenWhatIsForThem(t *testing.T) {
	t.Parallel()
	url, _ := guarded(t, guardKey)
	for _, c := range []struct {
		path  string
		scope string
		want  int
	}{
		{"/v1/operate", "", 403},
		{"/v1/operate", identity.ScopeRead, 403},
		{"/v1/operate", identity.ScopeEveryone, 403},
		{"/v1/operate", identity.ScopeOperate, 200},
		{"/v1/all", "", 403},
		{"/v1/all", identity.ScopeRead, 200},
		{"/v1/all", identity.ScopeEveryone, 200},
		{"/v1/all", identity.ScopeOperate, 200},
	} {
		status, _, _ := fetch(t, url+c.path, call(t, "b-svc", identity.Principal{Subject: "x", Scopes: []string{c.scope}}))
		if status != c.want {
			t.Errorf("%s with %q: %d, want %d", c.path, c.scope, status, c.want)
		}
	}
}

// Who shows a token counts on its being looked at: a service that was given no
// key must not answer as if it had looked.
func TestForServices_WithoutAKey_RefusesWhoShowsAToken(t *testing.T) {
	t.Parallel()
	url, _ := guarded(t, "")
	if status, _, _ := fetch(t, url+"/v1/who", ""); status != http.StatusOK {
		t.Errorf("without a token: %d", status)
	}
	if status, body, _ := fetch(t, url+"/v1/who", call(t, "b-svc", identity.Principal{Subject: "cust-01"})); status != http.StatusUnauthorized || !strings.Contains(body, "no key") {
		t.Errorf("with a token: %d %s", status, body)
	}
}
