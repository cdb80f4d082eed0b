package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	"pavane/gateway-svc/internal/gateway"
)

const operatorToken = "0123456789abcdef"

// waiting is what a service says of one key that waits since then.
func waiting(cause, key, since string) string {
	return `{"groups":[{"cause":"` + cause + `","count":3,"oldest":"` + since + `","keys":[{"source":"/order-svc","key":"` + key + `","cause":"` + cause +
		`","sequence":1,"kind":"order.placed.v1","topic":"orders.events.v1","reason":"no","attempts":5,"since":"` + since + `","records":2,"last_applied":0}]}]}`
}

func TestParked_WhatWaitsForTheSame_IsOneGroupOverAllServices(t *testing.T) {
	t.Parallel()
	payment := startService(t).on("GET /v1/parked", 200, waiting("fault", "k-2", "2026-01-31T12:00:01Z"))
	inventory := startService(t).on("GET /v1/parked", 200, waiting("fault", "k-1", "2026-01-31T12:00:00Z"))
	order := startService(t).on("GET /v1/parked", 200, `{"groups":[]}`)
	url := startGateway(t, gateway.Config{Registry: at{"payment-svc": {payment.addr()}, "inventory-svc": {inventory.addr()}, "order-svc": {order.addr()}}.registry(t)})
	got := ask(t, "GET", url+"/v1/parked", "")
	if got.status != 200 || !strings.Contains(got.text, `{"groups":[{"cause":"fault","count":6,"oldest":"2026-01-31T12:00:00Z","keys":[{"service":"inventory-svc"`) {
		t.Fatalf("%d %s", got.status, got.text)
	}
	if m := missing(t, got); len(m) != 1 || m[0] != "notification-svc" {
		t.Errorf("missing %v", m)
	}
}

func TestParkedRecords_AreThoseOfTheService(t *testing.T) {
	t.Parallel()
	payment := startService(t).on("GET /v1/parked/records", 200, `{"records":[{"sequence":1,"payload":"{}"}],"moves":[]}`)
	url := startGateway(t, gateway.Config{Registry: at{"payment-svc": {payment.addr()}}.registry(t)})
	got := ask(t, "GET", url+"/v1/parked/payment-svc/records?key=a%2Fb", "")
	if got.status != 200 || !strings.Contains(got.text, `"records":[{"sequence":1,"payload":"{}"}],"moves":[]`) || payment.hits[0].URL.Query().Get("key") != "a/b" {
		t.Errorf("%d %s", got.status, got.text)
	}
	if got := ask(t, "GET", url+"/v1/parked/other-svc/records?key=a", ""); got.status != 422 {
		t.Errorf("a service that does not exist: %d", got.status)
	}
}

func TestRedrive_IsForOperatorsAndReachesTheChosenServices(t *testing.T) {
	t.Parallel()
	const done = `{"keys":2,"records":2,"left":1,"rest":0}`
	payment := startService(t).on("POST /v1/parked/redrive", 200, done)
	inventory := startService(t).on("POST /v1/parked/redrive", 200, done)
	registry := at{"payment-svc": {payment.addr()}, "inventory-svc": {inventory.addr()}}.registry(t)
	url := startGateway(t, gateway.Config{Registry: registry, OperatorToken: operatorToken})
	const all, body = "/v1/parked/redrive", `{"why":"mended"}`
	for name, headers := range map[string][]string{
		"no token": nil, "another token": {"X-Pavane-Operator", "guess"},
		"another site": {"X-Pavane-Operator", operatorToken, "Origin", "http://other.test"},
	} {
		if got := ask(t, "POST", url+all, body, headers...); got.status != http.StatusForbidden || payment.count()+inventory.count() > 0 {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		}
	}
	if got := ask(t, "POST", url+all, `{}`, "X-Pavane-Operator", operatorToken); got.status != 422 {
		t.Errorf("without a reason: %d", got.status)
	}
	got := ask(t, "POST", url+all, body, "X-Pavane-Operator", operatorToken)
	if got.status != 200 || got.body["keys"] != 4.0 || got.body["left"] != 2.0 || len(missing(t, got)) != 2 {
		t.Errorf("everywhere: %d %s", got.status, got.text)
	}
	got = ask(t, "POST", url+all, `{"service":"payment-svc","key":"k","why":"mended"}`, "X-Pavane-Operator", operatorToken)
	if got.status != 200 || got.body["keys"] != 2.0 || payment.count() != 2 || inventory.count() != 1 || payment.hits[1].Header.Get("X-Pavane-Operator") != operatorToken {
		t.Errorf("in one: %d %s", got.status, got.text)
	}
}

func TestRedrive_NoTokenIsConfigured_IsForNobody(t *testing.T) {
	t.Parallel()
	url := startGateway(t, gateway.Config{})
	if got := ask(t, "POST", url+"/v1/parked/redrive", `{"why":"mended"}`, "X-Pavane-Operator", ""); got.status != http.StatusForbidden || !strings.Contains(got.detail(), "no operator's token") {
		t.Errorf("%d %s", got.status, got.text)
	}
}
