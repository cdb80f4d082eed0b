package gateway_test

import (
	"net/http"
	"testing"

	"pavane/gateway-svc/internal/gateway"
)

func TestBreak_IsForOperatorsOfADemoOnly(t *testing.T) {
	t.Parallel()
	demo := startService(t).on("POST /faults", 200, `{"text":"killed"}`).on("GET /faults", 200, `{}`)
	url := startGateway(t, gateway.Config{OperatorToken: operatorToken, BreakURL: demo.URL})
	const path, body = "/v1/break/faults", `{"kind":"kill"}`
	for name, headers := range map[string][]string{
		"no token": nil, "another token": {"X-Pavane-Operator", "guess"}, "as bearer": {"Authorization", "Bearer " + operatorToken},
		"another site": {"X-Pavane-Operator", operatorToken, "Sec-Fetch-Site", "cross-site"},
	} {
		if got := ask(t, "POST", url+path, body, headers...); got.status != http.StatusForbidden || demo.count() > 0 {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		}
	}
	if got := ask(t, "GET", url+path, ""); got.status != http.StatusForbidden {
		t.Errorf("to look without the token: %d", got.status)
	}
	got := ask(t, "POST", url+path, body, "X-Pavane-Operator", operatorToken, "Cookie", "a=b")
	if got.status != 200 || got.body["text"] != "killed" {
		t.Fatalf("%d %s", got.status, got.text)
	}
	if h := demo.hits[0].Header; h.Get("Authorization") != "Bearer "+operatorToken || h.Get("Cookie") != "" {
		t.Errorf("passed on: %v", h)
	}
}

func TestBreak_NoDemo_HasNoRoute(t *testing.T) {
	t.Parallel()
	url := startGateway(t, gateway.Config{OperatorToken: operatorToken})
	if got := ask(t, "POST", url+"/v1/break/faults", `{"kind":"kill"}`, "X-Pavane-Operator", operatorToken); got.status != http.StatusNotFound {
		t.Errorf("%d %s", got.status, got.text)
	}
}

func TestBreak_DemoIsGone_IsSaid(t *testing.T) {
	t.Parallel()
	url := startGateway(t, gateway.Config{OperatorToken: operatorToken, BreakURL: "http://" + deadAddr(t)})
	if got := ask(t, "GET", url+"/v1/break/faults", "", "X-Pavane-Operator", operatorToken); got.status != http.StatusBadGateway || got.detail() == "" {
		t.Errorf("%d %s", got.status, got.text)
	}
}
