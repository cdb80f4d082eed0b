package e2e_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"testing"

	"pavane/internal/await"
	"pavane/internal/demo"
	"pavane/internal/otlp"
)

// what names a span as an assertion wants it: which service did what with which
// event.
func what(s otlp.Span) string {
	name := s.Name
	if kind := s.Attributes["pavane.event.kind"]; kind != "" {
		name = strings.Fields(name)[0] + " " + kind
	}
	return s.Service + ": " + name
}

// sagaSpans are in the trace of every order; the ones of its path come to them.
func sagaSpans() []string {
	return []string{
		"gateway-svc: POST /v1/orders", "gateway-svc: POST", "order-svc: POST /v1/orders", "order-svc: create order.placed.v1",
		"inventory-svc: process order.placed.v1", "inventory-svc: create inventory.reserved.v1", "payment-svc: process inventory.reserved.v1",
	}
}

func TestTraces_OneOrder_OneTraceFromThePOSTToTheLastReaction(t *testing.T) {
	t.Parallel()
	c := otlp.Start(t)
	told := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(told.Close)
	u := start(t, how{env: []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test",
		"PAVANE_WEBHOOK_URL=" + told.URL, "PAVANE_WEBHOOK_KEY=whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
	}})
	for name, f := range map[string]struct {
		body, end string
		spans     []string
	}{
		"confirmed": {body("cust-03", "mug-red"), "confirmed", append(sagaSpans(),
			"payment-svc: create payment.authorized.v1", "order-svc: process payment.authorized.v1", "order-svc: create order.confirmed.v1",
			"payment-svc: process order.confirmed.v1", "payment-svc: create payment.captured.v1",
			"inventory-svc: process order.confirmed.v1", "inventory-svc: create inventory.shipped.v1",
			"notification-svc: process order.confirmed.v1", "notification-svc: send mail confirmed", "notification-svc: send mail receipt",
			"notification-svc: send webhook confirmed", "notification-svc: send webhook receipt")},
		"declined": {body(poor, "tea-green"), "cancelled payment_declined", append(sagaSpans(),
			"payment-svc: create payment.declined.v1", "inventory-svc: process payment.declined.v1", "inventory-svc: create inventory.released.v1",
			"order-svc: process payment.declined.v1", "order-svc: create order.cancelled.v1",
			"notification-svc: process order.cancelled.v1", "notification-svc: send mail cancelled", "notification-svc: send webhook cancelled")},
	} {
		t.Run(name, func(t *testing.T) {
			gw := u.with(t).Gateway()
			a, err := gw.Do(http.MethodPost, "/v1/orders", f.body)
			must(t, err)
			id, trace := path.Base(a.Header.Get("Location")), traceOf(t, a)
			if o, err := gw.Ended(orderLimit, id); err != nil || o.End() != f.end {
				t.Fatalf("order %s is %q, want %q: %v", id, o.End(), f.end, err)
			}
			var missing []string
			t.Cleanup(func() {
				if len(missing) > 0 {
					t.Errorf("missing: %q", missing)
				}
			})
			await.True(t, orderLimit, "all spans of the trace come and the relays' are linked", func() bool {
				missing = absent(c, trace, f.spans)
				return len(missing) == 0
			})
			checkTrace(t, c.Of(trace), id)
		})
	}
	t.Run("metrics", func(t *testing.T) { testMetricNames(t, u.with(t)) })
}

// traceOf is the trace that the answer names.
func traceOf(t *testing.T, a demo.Answer) string {
	t.Helper()
	parts := strings.Split(a.Header.Get("Traceparent"), "-")
	if len(parts) != 4 {
		t.Fatalf("traceparent %q of %s", a.Header.Get("Traceparent"), a)
	}
	return parts[1]
}

// absent says what is not there yet: spans of the trace, and the links by which
// a relay's span tells that it sent an event.
func absent(c *otlp.Collector, trace string, want []string) []string {
	spans := c.Of(trace)
	var linked []string
	for _, s := range c.Spans() {
		if strings.HasPrefix(s.Name, "send ") && s.Trace != trace {
			linked = append(linked, s.Links...)
		}
	}
	missing := slices.DeleteFunc(slices.Clone(want), func(w string) bool {
		return slices.ContainsFunc(spans, func(s otlp.Span) bool { return what(s) == w })
	})
	for _, s := range spans {
		if strings.HasPrefix(s.Name, "create ") && !slices.Contains(linked, s.ID) {
			missing = append(missing, "link to "+what(s))
		}
	}
	return missing
}

// checkTrace demands that a trace hangs together and names its saga.
func checkTrace(t *testing.T, spans []otlp.Span, order string) {
	t.Helper()
	ids := map[string]bool{}
	for _, s := range spans {
		ids[s.ID] = true
	}
	for _, s := range spans {
		if root := what(s) == "gateway-svc: POST /v1/orders"; root != (s.Parent == "") || !root && !ids[s.Parent] {
			t.Errorf("%s has the parent %q, which is not in the trace", what(s), s.Parent)
		}
		if s.Failed {
			t.Errorf("%s failed", what(s))
		}
		if saga := s.Attributes["messaging.message.conversation_id"]; s.Attributes["pavane.event.kind"] != "" && saga != order {
			t.Errorf("%s is of the saga %q, want %q", what(s), saga, order)
		}
		if s.Resource["service.version"] == "" || s.Resource["service.instance.id"] == "" || s.Resource["deployment.environment.name"] != "test" {
			t.Errorf("%s comes from %v", what(s), s.Resource)
		}
	}
}
