package gateway_test

import (
	"slices"
	"strings"
	"testing"

	"pavane/gateway-svc/internal/gateway"
)

const (
	soundMoney = `{"balances":[{"kind":"customer","balance":{"amount":70,"currency":"EUR"}},{"kind":"held","balance":{"amount":20,"currency":"EUR"}},
		{"kind":"merchant","balance":{"amount":10,"currency":"EUR"}},{"kind":"funding","balance":{"amount":-100,"currency":"EUR"}}],
		"unsettled":[{"amount":20,"currency":"EUR"}],"suspects":[]}`
	soundStock = `{"stock":[{"sku":"tea","available":7,"reserved":2,"sold":1,"received":10,"bound":2}],"suspects":[]}`
)

func ledgers(t *testing.T, money, stock string) answered {
	t.Helper()
	payment := startService(t).on("GET /v1/ledger", 200, money)
	inventory := startService(t).on("GET /v1/ledger", 200, stock)
	url := startGateway(t, gateway.Config{Registry: at{"payment-svc": {payment.addr()}, "inventory-svc": {inventory.addr()}}.registry(t)})
	return ask(t, "GET", url+"/v1/conservation", "")
}

func TestConservation_AllIsThere_TellsWhere(t *testing.T) {
	t.Parallel()
	got := ledgers(t, soundMoney, soundStock)
	if d := got.body["differences"].([]any); got.status != 200 || len(d) != 0 || len(missing(t, got)) != 0 {
		t.Fatalf("%d %s", got.status, got.text)
	}
	for _, want := range []string{
		`{"currency":"EUR","paid_in":100,"available":70,"in_flight":20,"earned":10}`,
		`{"sku":"tea","received":10,"available":7,"in_flight":2,"sold":1}`,
	} {
		if !strings.Contains(got.text, want) {
			t.Errorf("no %s in %s", want, got.text)
		}
	}
}

func TestConservation_SomethingIsLost_NamesItAndTheOrders(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ money, stock, of, reason string }{
		"a cent":        {strings.Replace(soundMoney, `"amount":70`, `"amount":69`, 1), soundStock, "EUR", "the accounts hold -1 more than was paid in"},
		"a held cent":   {strings.Replace(soundMoney, `"unsettled":[{"amount":20`, `"unsettled":[{"amount":19`, 1), soundStock, "EUR", "+1 more is held than the open payments come to"},
		"a piece":       {soundMoney, strings.Replace(soundStock, `"sold":1`, `"sold":2`, 1), "tea", "+1 more pieces are there than were received"},
		"a bound piece": {soundMoney, strings.Replace(soundStock, `"bound":2`, `"bound":3`, 1), "tea", "-1 more pieces are reserved than the open reservations come to"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			suspect := func(ledger string) string { return strings.Replace(ledger, `"suspects":[]`, `"suspects":["o-9"]`, 1) }
			got := ledgers(t, suspect(c.money), suspect(c.stock))
			differences := got.body["differences"].([]any)
			if len(differences) != 1 {
				t.Fatalf("differences in %s", got.text)
			}
			d := differences[0].(map[string]any)
			if d["of"] != c.of || d["reason"] != c.reason || !slices.Equal(d["orders"].([]any), []any{"o-9"}) {
				t.Errorf("difference %v", d)
			}
		})
	}
}

func TestConservation_AServiceIsAway_CountsTheRestAndSaysSo(t *testing.T) {
	t.Parallel()
	inventory := startService(t).on("GET /v1/ledger", 200, soundStock)
	url := startGateway(t, gateway.Config{Registry: at{"payment-svc": {deadAddr(t)}, "inventory-svc": {inventory.addr()}}.registry(t)})
	got := ask(t, "GET", url+"/v1/conservation", "")
	if names := missing(t, got); !slices.Equal(names, []string{"payment-svc"}) || len(got.body["stock"].([]any)) != 1 || len(got.body["money"].([]any)) != 0 {
		t.Errorf("%v: %s", names, got.text)
	}
}

func TestGauges_EveryInstance_TellsOfItself(t *testing.T) {
	t.Parallel()
	metrics := "# TYPE pavane_outbox_backlog gauge\npavane_outbox_backlog 3\n" +
		"# TYPE pavane_inbox_lag_records gauge\npavane_inbox_lag_records{topic=\"a\",partition=\"0\"} 2\npavane_inbox_lag_records{topic=\"a\",partition=\"1\"} 5\n"
	one, two := startService(t).on("GET /metrics", 200, metrics), startService(t).on("GET /metrics", 200, metrics)
	broken := startService(t).on("GET /metrics", 500, "")
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {one.addr(), two.addr()}, "payment-svc": {broken.addr()}, "inventory-svc": {deadAddr(t)}}.registry(t)})
	got := ask(t, "GET", url+"/v1/gauges", "")
	if gauges := got.body["gauges"].([]any); len(gauges) != 2 || strings.Count(got.text, `"backlog":3`) != 2 || strings.Count(got.text, `"lag":7`) != 2 {
		t.Errorf("gauges %s", got.text)
	}
	if names := missing(t, got); !slices.Equal(names, []string{"inventory-svc", "notification-svc", "payment-svc"}) {
		t.Errorf("missing %v", names)
	}
	if one.count() != 1 {
		t.Errorf("asked %d times, want once and only now", one.count())
	}
}
