package tracing_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"pavane/shared/tracing"
)

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent  = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// recorded returns a tracer and what it has recorded.
func recorded() (*tracing.Tracer, *tracetest.SpanRecorder) {
	spans := tracetest.NewSpanRecorder()
	return tracing.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))), spans
}

func TestTraceParent_WellFormed_ComesBackAsItWas(t *testing.T) {
	t.Parallel()
	if got := tracing.TraceParent(tracing.WithParent(t.Context(), parent)); got != parent {
		t.Errorf("got %q, want %q", got, parent)
	}
	for _, bad := range []string{
		"", "x", strings.ToUpper(parent), "01" + parent[2:], parent + "0", strings.Replace(parent, traceID, strings.Repeat("0", 32), 1),
		strings.Replace(parent, "00f067aa0ba902b7", strings.Repeat("0", 16), 1), strings.Replace(parent, "-", "_", 1), strings.Replace(parent, "b7-01", "b7_01", 1),
		strings.Replace(parent, "4b", "4g", 1),
	} {
		if got := tracing.TraceParent(tracing.WithParent(t.Context(), bad)); got != "" {
			t.Errorf("%q became %q, want nothing", bad, got)
		}
	}
}

func TestServe_WithoutATracer_PassesTheTraceOnUnderAnotherSpan(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
	r.Header.Set(tracing.Header, parent)
	var none *tracing.Tracer
	ctx, span := none.Serve(r)
	span.Served("GET /", 200)
	got := tracing.TraceParent(ctx)
	if !strings.HasPrefix(got, "00-"+traceID+"-") || got == parent || !strings.HasSuffix(got, "-01") {
		t.Errorf("got %q", got)
	}
	if tracing.From(ctx) != nil {
		t.Error("a request that nobody records has a tracer")
	}
}

func TestServe_RouteNamesTheSpanNotThePath(t *testing.T) {
	t.Parallel()
	tracer, spans := recorded()
	ctx, span := tracer.Serve(httptest.NewRequestWithContext(t.Context(), "GET", "/v1/orders/o-1", nil))
	if tracing.From(ctx) == nil {
		t.Error("what a recorded request calls is not recorded")
	}
	span.Served("GET /v1/orders/{id}", 503)
	got := spans.Ended()
	if len(got) != 1 || got[0].Name() != "GET /v1/orders/{id}" || got[0].Status().Code.String() != "Error" {
		t.Errorf("got %v", got)
	}
}

func TestSend_ManyEvents_AreAllLinkedAndNoSpanHasTooMany(t *testing.T) {
	t.Parallel()
	tracer, spans := recorded()
	batch, silent := tracer.NewSending("facts", 3), tracer.NewSending("facts", 4)
	for range 300 {
		batch.Add([]byte(parent))
	}
	silent.Add([]byte(strings.TrimSuffix(parent, "1") + "0")) // not recorded
	silent.Add(nil)
	tracer.Send(tracing.WithParent(t.Context(), parent), batch, silent)(nil)
	links := 0
	for _, s := range spans.Ended() {
		links += len(s.Links())
		if s.DroppedLinks() > 0 || s.Parent().IsValid() || s.SpanContext().TraceID().String() == traceID {
			t.Errorf("%d links dropped, parent %v", s.DroppedLinks(), s.Parent())
		}
	}
	if links != 300 || len(spans.Ended()) != 3 {
		t.Errorf("%d spans with %d links, want 3 with 300", len(spans.Ended()), links)
	}
}

func TestProcess_ContinuesTheTraceOfTheEvent(t *testing.T) {
	t.Parallel()
	tracer, spans := recorded()
	span := tracer.Process(context.Background(), parent, tracing.Message{Topic: "facts"}, tracing.Place{Partition: 2, Offset: 7})
	if p := span.TraceParent(); !strings.Contains(p, traceID) || p == parent {
		t.Errorf("goes on as %q", p)
	}
	span.End(nil)
	if got := spans.Ended()[0]; got.Parent().SpanID().String() != "00f067aa0ba902b7" || got.SpanKind().String() != "consumer" {
		t.Errorf("parent %v, kind %v", got.Parent(), got.SpanKind())
	}
}

func BenchmarkOff(b *testing.B) {
	var none *tracing.Tracer
	b.ReportAllocs()
	for b.Loop() {
		span := none.Process(context.Background(), parent, tracing.Message{}, tracing.Place{})
		var spans tracing.Spans
		spans.Add(span)
		spans.End(nil)
		none.Send(context.Background())(nil)
	}
}
