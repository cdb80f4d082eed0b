package telemetry_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"pavane/internal/await"
	"pavane/internal/otlp"
	"pavane/shared/telemetry"
)

// open reads the environment that the test has set.
func open(t *testing.T, log io.Writer) (*telemetry.Traces, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	traces, err := telemetry.OpenTraces(t.Context(), "order-svc", "v1.2.3", slog.New(slog.NewTextHandler(log, nil)), reg)
	if err != nil {
		t.Fatal(err)
	}
	return traces, reg
}

// outcomes are the spans by what became of them.
func outcomes(t *testing.T, reg *prometheus.Registry) map[string]int {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, m := range families[0].GetMetric() {
		n[m.GetLabel()[0].GetValue()] = int(m.GetCounter().GetValue())
	}
	return n
}

func TestTraces_NoCollectorNamed_NoConnectionNoGoroutineNoSpan(t *testing.T) {
	c := otlp.Start(t)
	before := runtime.NumGoroutine()
	for name, set := range map[string]map[string]string{
		"nothing":  {},
		"disabled": {"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_SDK_DISABLED": "true"},
		"none":     {"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_TRACES_EXPORTER": "none"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range set {
				t.Setenv(k, v)
			}
			traces, _ := open(t, io.Discard)
			if traces != nil || traces.Provider() != nil || traces.Stop(t.Context()) != nil {
				t.Errorf("got %v", traces)
			}
		})
	}
	// A subtest's own goroutine may still be on its way out.
	await.True(t, 5*time.Second, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
	if c.Requests() > 0 {
		t.Errorf("%d requests", c.Requests())
	}
}

func TestTraces_Stop_SendsWhatWaitsWithTheResource(t *testing.T) {
	c := otlp.Start(t)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.URL+"/v1/traces")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=shop")
	traces, reg := open(t, io.Discard)
	for range 100 {
		_, span := traces.Provider().Tracer("test").Start(t.Context(), "work")
		span.End()
	}
	if err := traces.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := c.Spans()
	if len(spans) != 100 || outcomes(t, reg)["exported"] != 100 {
		t.Fatalf("%d spans came, counted %v", len(spans), outcomes(t, reg))
	}
	r := spans[0].Resource
	if r["service.name"] != "order-svc" || r["service.version"] != "v1.2.3" || r["service.instance.id"] == "" || r["service.namespace"] != "shop" {
		t.Errorf("resource %v", r)
	}
}

// A collector that takes connections and never answers.
func TestTraces_CollectorDoesNotAnswer_WorkGoesOnAndWhatIsDroppedIsCounted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nobody uses it any more
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	var log bytes.Buffer
	traces, reg := open(t, &log)
	const spans = 20_000
	began := time.Now()
	for range spans {
		_, span := traces.Provider().Tracer("test").Start(t.Context(), "work")
		span.End()
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("%d spans took %s", spans, took)
	}
	dropped := outcomes(t, reg)["dropped"]
	if dropped < spans-2*4096 || dropped > spans-4096 {
		t.Errorf("%d of %d were dropped, want all that have no room", dropped, spans)
	}
	began = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := traces.Stop(ctx); err == nil {
		t.Error("the loss is not said")
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the stop took %s", took)
	}
}

func TestTraces_WrongValue_IsRefusedWithTheRemedy(t *testing.T) {
	for want, set := range map[string][2]string{
		"want a URL such as":              {"OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"},
		"only http/protobuf is spoken":    {"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"},
		`OTEL_TRACES_SAMPLER="sometimes"`: {"OTEL_TRACES_SAMPLER", "sometimes"},
		"want a share from 0 to 1":        {"OTEL_TRACES_SAMPLER_ARG", "2"},
		"want gzip or none":               {"OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"},
		"the values percent-encoded":      {"OTEL_EXPORTER_OTLP_HEADERS", "token"},
		"OTEL_EXPORTER_OTLP_CERTIFICATE":  {"OTEL_EXPORTER_OTLP_CERTIFICATE", "/none.pem"},
	} {
		t.Run(set[0], func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
			t.Setenv("OTEL_TRACES_SAMPLER", "traceidratio")
			t.Setenv(set[0], set[1])
			_, err := telemetry.OpenTraces(t.Context(), "s", "v", slog.New(slog.DiscardHandler), nil)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

func TestTraces_Sampler_DecidesForRootsAndFollowsParentsAndLinks(t *testing.T) {
	c := otlp.Start(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
	traces, _ := open(t, io.Discard)
	tracer := traces.Provider().Tracer("test")
	recorded := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled})
	_, root := tracer.Start(t.Context(), "root")
	_, child := tracer.Start(trace.ContextWithRemoteSpanContext(t.Context(), recorded), "child")
	_, linked := tracer.Start(t.Context(), "linked", trace.WithLinks(trace.Link{SpanContext: recorded}))
	for _, s := range []trace.Span{root, child, linked} {
		s.End()
	}
	if err := traces.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range c.Spans() {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "child linked" {
		t.Errorf("recorded %q, want child and linked", got)
	}
}

func TestLogger_ContextOfATrace_PutsItOnTheLine(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := telemetry.Logger(&b, "s", telemetry.LogConfig{})
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0xab}, SpanID: trace.SpanID{1}}))
	l.With("a", 1).InfoContext(ctx, "m")
	if want := `"trace_id":"ab000000000000000000000000000000"`; !strings.Contains(b.String(), want) {
		t.Errorf("%s does not say %s", b.String(), want)
	}
	b.Reset()
	l.InfoContext(t.Context(), "m")
	if strings.Contains(b.String(), "trace_id") {
		t.Errorf("a trace out of nowhere: %s", b.String())
	}
}
