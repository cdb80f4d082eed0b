package gateway_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pavane/gateway-svc/internal/gateway"
)

// missing lists the services that an answer names as missing.
func missing(t *testing.T, a answered) []string {
	t.Helper()
	list, ok := a.body["missing"].([]any)
	if !ok {
		t.Fatalf("no list of what is missing in %s", a.text)
	}
	names := []string{}
	for _, m := range list {
		m := m.(map[string]any)
		if reason, _ := m["reason"].(string); reason == "" {
			t.Errorf("no reason in %s", a.text)
		}
		names = append(names, m["service"].(string))
	}
	return names
}

func TestFull_AllAnswer_JoinsThem(t *testing.T) {
	t.Parallel()
	order := startService(t).on("GET /v1/orders/o-1", 200, confirmed)
	payment := startService(t).on("GET /v1/payments/o-1", 200, `{"state":"captured","more":1}`)
	inventory := startService(t).on("GET /v1/reservations/o-1", 200, `{"state":"shipped"}`)
	notification := startService(t).on("GET /v1/notifications/o-1", 200, `{"notifications":[{"kind":"confirmed","state":"sent"}],"webhooks":[{"kind":"receipt","state":"pending"}]}`)
	url := startGateway(t, gateway.Config{Registry: at{
		"order-svc": {order.addr()}, "payment-svc": {payment.addr()}, "inventory-svc": {inventory.addr()}, "notification-svc": {notification.addr()},
	}.registry(t)})
	got := ask(t, "GET", url+"/v1/orders/o-1?view=full", "")
	if got.status != 200 || len(missing(t, got)) != 0 {
		t.Fatalf("%d %s", got.status, got.text)
	}
	for part, want := range map[string]string{
		"order": `"state":"confirmed"`, "payment": `"more":1,"state":"captured"`, "reservation": `"state":"shipped"`, "notifications": `"kind":"confirmed"`,
		"webhooks": `"kind":"receipt"`,
	} {
		if raw, _ := json.Marshal(got.body[part]); !strings.Contains(string(raw), want) {
			t.Errorf("part %s is %s, want %s", part, raw, want)
		}
	}
}

func TestFull_SomeAreAway_ServesTheRestAndNamesThem(t *testing.T) {
	t.Parallel()
	order := startService(t).on("GET /v1/orders/o-1", 200, confirmed)
	payment := startService(t).hang("/")
	inventory := startService(t).on("GET /v1/reservations/o-1", 404, `{"detail":"no reservation yet"}`)
	url := startGateway(t, gateway.Config{Registry: at{
		"order-svc": {order.addr()}, "payment-svc": {payment.addr()}, "inventory-svc": {inventory.addr()}, "notification-svc": {deadAddr(t)},
	}.registry(t)})
	begin := time.Now()
	got := ask(t, "GET", url+"/v1/orders/o-1?view=full", "")
	if names := missing(t, got); got.status != 200 || !slices.Equal(names, []string{"notification-svc", "payment-svc"}) {
		t.Errorf("%d, missing %v: %s", got.status, names, got.text)
	}
	if got.body["payment"] != nil || got.body["reservation"] != nil || got.body["order"] == nil {
		t.Errorf("want the order alone: %s", got.text)
	}
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("took %v although each part has a limit", took)
	}
}

func TestFull_OrderServiceAway_ServesTheRest(t *testing.T) {
	t.Parallel()
	payment := startService(t).on("GET /v1/payments/o-1", 200, `{"state":"captured"}`)
	url := startGateway(t, gateway.Config{Registry: at{"payment-svc": {payment.addr()}}.registry(t)})
	got := ask(t, "GET", url+"/v1/orders/o-1?view=full", "")
	if names := missing(t, got); got.status != 200 || !slices.Contains(names, "order-svc") || got.body["payment"] == nil {
		t.Errorf("%d, missing %v: %s", got.status, names, got.text)
	}
}

func TestFull_UnknownOrder_404(t *testing.T) {
	t.Parallel()
	order := startService(t).on("/", 404, `{"detail":"there is no order o-1"}`)
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {order.addr()}}.registry(t)})
	if got := ask(t, "GET", url+"/v1/orders/o-1?view=full", ""); got.status != 404 || got.detail() != "there is no order o-1" {
		t.Errorf("%d %s", got.status, got.text)
	}
}

const catalogue = `{"products":[{"sku":"tea","name":"Tea","price":{"amount":500,"currency":"EUR"}},{"sku":"tin","name":"Tin","price":{"amount":300,"currency":"EUR"}}]}`

func TestProducts_JoinsPriceAndStock(t *testing.T) {
	t.Parallel()
	order := startService(t).on("GET /v1/products", 200, catalogue)
	inventory := startService(t).on("GET /v1/stock", 200, `{"stock":[{"sku":"tea","available":7,"reserved":2,"sold":1},{"sku":"old","available":1,"reserved":0,"sold":0}]}`)
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {order.addr()}, "inventory-svc": {inventory.addr()}}.registry(t)})
	got := ask(t, "GET", url+"/v1/products", "")
	want := `{"products":[{"sku":"tea","name":"Tea","price":{"amount":500,"currency":"EUR"},"stock":{"available":7,"reserved":2,"sold":1}},` +
		`{"sku":"tin","name":"Tin","price":{"amount":300,"currency":"EUR"},"stock":null}],"missing":[]}`
	if got.status != 200 || strings.TrimSpace(got.text) != want {
		t.Errorf("%d %s\nwant %s", got.status, got.text, want)
	}
}

func TestProducts_InventoryAway_PricesWithoutStock(t *testing.T) {
	t.Parallel()
	order := startService(t).on("GET /v1/products", 200, catalogue)
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {order.addr()}}.registry(t)})
	got := ask(t, "GET", url+"/v1/products", "")
	if names := missing(t, got); got.status != 200 || !slices.Equal(names, []string{"inventory-svc"}) || !strings.Contains(got.text, `"stock":null`) {
		t.Errorf("%d %s", got.status, got.text)
	}
}

func TestProducts_CatalogueAway_503(t *testing.T) {
	t.Parallel()
	url := startGateway(t, gateway.Config{})
	if got := ask(t, "GET", url+"/v1/products", ""); got.status != 503 {
		t.Errorf("%d %s", got.status, got.text)
	}
}

// written is an event as a service tells it.
func written(id, kind string, sequence int, cause, at string) string {
	return fmt.Sprintf(`{"id":%q,"kind":%q,"sequence":%d,"causation_id":%q,"created_at":"2026-01-01T00:00:%sZ","topic":"t","partition":0,"offset":%d,"data":{"n":%d}}`,
		id, kind, sequence, cause, at, sequence, sequence)
}

func told(events ...string) string {
	return `{"written":[` + strings.Join(events, ",") + `],"applied":[{"source":"/order-svc","last_sequence":2,"applied_at":"2026-01-01T00:00:00Z"}],"parked":[]}`
}

// sagaServices are four services that tell of a confirmed order, with clocks
// that disagree.
func sagaServices(t *testing.T) at {
	t.Helper()
	order := startService(t).on("GET /v1/story/o-1", 200, told(
		written("a", "order.placed.v1", 1, "", "09"), written("d", "order.confirmed.v1", 2, "c", "10")))
	inventory := startService(t).on("GET /v1/story/o-1", 200, told(
		written("b", "inventory.reserved.v1", 1, "a", "01"), written("f", "inventory.shipped.v1", 2, "d", "02")))
	payment := startService(t).on("GET /v1/story/o-1", 200, told(
		written("c", "payment.authorized.v1", 1, "b", "20"), written("e", "payment.captured.v1", 2, "d", "21")))
	notification := startService(t).on("GET /v1/story/o-1", 200, told())
	return at{"order-svc": {order.addr()}, "inventory-svc": {inventory.addr()}, "payment-svc": {payment.addr()}, "notification-svc": {notification.addr()}}
}

func kindsOf(t *testing.T, a answered) []string {
	t.Helper()
	var kinds []string
	for _, e := range a.body["events"].([]any) {
		kinds = append(kinds, e.(map[string]any)["kind"].(string))
	}
	return kinds
}

func TestStory_ClocksDisagree_CausesComeFirst(t *testing.T) {
	t.Parallel()
	url := startGateway(t, gateway.Config{Registry: sagaServices(t).registry(t)})
	got := ask(t, "GET", url+"/v1/orders/o-1/story", "")
	want := []string{"order.placed.v1", "inventory.reserved.v1", "payment.authorized.v1", "order.confirmed.v1", "inventory.shipped.v1", "payment.captured.v1"}
	if got.status != 200 || !slices.Equal(kindsOf(t, got), want) {
		t.Errorf("%d, order %v\nwant %v", got.status, kindsOf(t, got), want)
	}
	if n := len(got.body["applied"].([]any)); n != 4 || len(missing(t, got)) != 0 {
		t.Errorf("%d positions, missing %v; want 4 and none", n, missing(t, got))
	}
}

func TestStory_ServiceAway_TellsTheRestAndNamesIt(t *testing.T) {
	t.Parallel()
	services := sagaServices(t)
	services["payment-svc"] = []string{deadAddr(t)}
	url := startGateway(t, gateway.Config{Registry: services.registry(t)})
	got := ask(t, "GET", url+"/v1/orders/o-1/story", "")
	if got.status != 200 || !slices.Equal(missing(t, got), []string{"payment-svc"}) || len(kindsOf(t, got)) != 4 {
		t.Errorf("%d %s", got.status, got.text)
	}
}

func TestStory_EventsOlderThanTheRetention_SaysSinceWhenTheyAreKept(t *testing.T) {
	t.Parallel()
	services := at{}
	for name, since := range map[string]string{
		"order-svc": `"2026-01-02T00:00:00Z"`, "inventory-svc": `"2026-01-03T00:00:00Z"`, "payment-svc": `"2026-01-01T00:00:00Z"`, "notification-svc": "null",
	} {
		body := strings.TrimSuffix(told(), "}") + `,"kept_since":` + since + `}`
		services[name] = []string{startService(t).on("GET /v1/story/o-1", 200, body).addr()}
	}
	url := startGateway(t, gateway.Config{Registry: services.registry(t)})
	got := ask(t, "GET", url+"/v1/orders/o-1/story", "")
	if got.status != 200 || len(got.body["applied"].([]any)) != 4 || got.body["kept_since"] != "2026-01-03T00:00:00Z" {
		t.Errorf("%d %s; want what was applied, and the latest of the three times", got.status, got.text)
	}
}

func TestStory_NobodyKnowsTheOrder_404(t *testing.T) {
	t.Parallel()
	services := at{}
	for _, name := range []string{"order-svc", "inventory-svc", "payment-svc", "notification-svc"} {
		services[name] = []string{startService(t).on("/", 200, `{"written":[],"applied":[],"parked":[]}`).addr()}
	}
	url := startGateway(t, gateway.Config{Registry: services.registry(t)})
	if got := ask(t, "GET", url+"/v1/orders/o-1/story", ""); got.status != 404 {
		t.Errorf("%d %s", got.status, got.text)
	}
}

func TestMembers_ListsTheRegistry(t *testing.T) {
	t.Parallel()
	url := startGateway(t, gateway.Config{Registry: at{"order-svc": {"127.0.0.1:1", "127.0.0.1:2"}, "gateway-svc": {"127.0.0.1:3"}}.registry(t)})
	got := ask(t, "GET", url+"/v1/members", "")
	if n := len(got.body["members"].([]any)); got.status != 200 || n != 3 {
		t.Errorf("%d %s", got.status, got.text)
	}
}

func TestDocuments_AreServedOffline(t *testing.T) {
	t.Parallel()
	url := startGateway(t, gateway.Config{AsyncAPI: []byte(`{"asyncapi":"3.0.0"}`)})
	page := ask(t, "GET", url+"/", "")
	if page.status != 200 || !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") {
		t.Errorf("page: %d %s", page.status, page.header.Get("Content-Type"))
	}
	if outside := regexp.MustCompile(`(https?:)?//[a-z]`).FindString(page.text); outside != "" {
		t.Errorf("the page names another host: %q", outside)
	}
	if got := ask(t, "GET", url+"/asyncapi.json", ""); got.status != 200 || got.body["asyncapi"] != "3.0.0" {
		t.Errorf("asyncapi: %d %s", got.status, got.text)
	}
	openapi := ask(t, "GET", url+"/openapi.json", "")
	if openapi.status != 200 || !strings.HasPrefix(fmt.Sprint(openapi.body["openapi"]), "3.1") {
		t.Fatalf("openapi: %d %v", openapi.status, openapi.body["openapi"])
	}
	paths := openapi.body["paths"].(map[string]any)
	for _, path := range []string{"/v1/orders", "/v1/orders/{id}", "/v1/orders/{id}/cancel", "/v1/orders/{id}/events", "/v1/orders/{id}/story", "/v1/events", "/v1/products", "/v1/members"} {
		if paths[path] == nil {
			t.Errorf("%s is not in the OpenAPI document", path)
		}
	}
	for _, path := range []string{"/nothing", "/v1/orders/o-1/nothing"} {
		if got := ask(t, "GET", url+path, ""); got.status != 404 || got.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", path, got.status, got.header.Get("Content-Type"))
		}
	}
}
