package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	// spanQueue bounds the spans that wait for the collector, in memory. What
	// ends while so many wait is dropped and counted.
	spanQueue = 4096
	// exportTime bounds one export, with its repetitions. It delays nobody.
	exportTime = 10 * time.Second
	// lingerTime is how long a span waits for others to go with it.
	lingerTime = time.Second
)

// Traces sends spans to an OpenTelemetry collector. Nil is what a process has
// whose environment names no collector: no connection, no goroutine, no span.
type Traces struct {
	provider *sdktrace.TracerProvider
}

// OpenTraces reads the standard variables of OpenTelemetry: with
// OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT set, spans
// go there by OTLP over HTTP; else it returns nil. OTEL_TRACES_SAMPLER chooses
// which; by default all whose caller has not decided otherwise. It connects to
// nothing yet, and an endpoint that does not answer holds up no work. A value
// that cannot be right is an error. metrics may be nil.
func OpenTraces(ctx context.Context, service, version string, logger *slog.Logger, metrics prometheus.Registerer) (*Traces, error) {
	if on, err := wanted(); !on || err != nil {
		return nil, err
	}
	sampler, err := samplerOf(os.Getenv("OTEL_TRACES_SAMPLER"), os.Getenv("OTEL_TRACES_SAMPLER_ARG"))
	if err != nil {
		return nil, err
	}
	client, err := newOTLP(exporterSetting)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", service), attribute.String("service.version", strings.Trim(version, "()")),
		attribute.String("service.instance.id", uuid.NewString()),
	), resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("traces: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	q := newSpanCounter(exporter, logger, metrics)
	batches := sdktrace.NewBatchSpanProcessor(q, sdktrace.WithMaxQueueSize(spanQueue), sdktrace.WithBatchTimeout(lingerTime), sdktrace.WithExportTimeout(exportTime))
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithResource(about), sdktrace.WithSpanProcessor(bounded{batches, q}))
	return &Traces{provider: provider}, nil
}

// Provider is where spans are started; nil for nil.
func (t *Traces) Provider() trace.TracerProvider {
	if t == nil {
		return nil
	}
	return t.provider
}

// Stop sends what waits, until ctx ends at most, and ends the export.
func (t *Traces) Stop(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("traces: some spans were not sent: %w", err)
	}
	return nil
}

// wanted tells whether the environment names a collector, and refuses what
// cannot work.
func wanted() (bool, error) {
	endpoint, from := "", ""
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		if v := os.Getenv(name); v != "" {
			endpoint, from = v, name
		}
	}
	if endpoint == "" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false, nil
	}
	if u, err := url.Parse(endpoint); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return false, fmt.Errorf("%s=%q: want a URL such as http://127.0.0.1:4318", from, urlPassword.ReplaceAllString(endpoint, "${1}"+masked+"@"))
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"} {
		if p := os.Getenv(name); p != "" && p != "http/protobuf" {
			return false, fmt.Errorf("%s=%q: only http/protobuf is spoken; unset it, and use the collector's HTTP port, 4318 as a rule", name, p)
		}
	}
	return true, nil
}

// exporterSetting is a variable of the exporter: that of traces, else that of all
// signals.
func exporterSetting(name string) string {
	if v := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_" + name); v != "" {
		return v
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_" + name)
}

// samplerOf is the sampler that OpenTelemetry's names mean.
func samplerOf(name, argument string) (sdktrace.Sampler, error) {
	ratio := 1.0
	if argument != "" && strings.Contains(name, "ratio") {
		var err error
		if ratio, err = strconv.ParseFloat(argument, 64); err != nil || ratio < 0 || ratio > 1 {
			return nil, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG=%q: want a share from 0 to 1", argument)
		}
	}
	root, parentBased := strings.CutPrefix(strings.ToLower(name), "parentbased_")
	var s sdktrace.Sampler
	switch root {
	case "", "always_on":
		s, parentBased = sdktrace.AlwaysSample(), parentBased || root == ""
	case "always_off":
		s = sdktrace.NeverSample()
	case "traceidratio":
		s = sdktrace.TraceIDRatioBased(ratio)
	default:
		return nil, fmt.Errorf("OTEL_TRACES_SAMPLER=%q does not exist: set parentbased_always_on, parentbased_traceidratio, always_off or another of OpenTelemetry's", name)
	}
	if parentBased {
		s = sdktrace.ParentBased(s)
	}
	return linked{s}, nil
}

// linked records what begins a trace of its own but is linked to recorded ones:
// a relay's span is of use to them only when it is there.
type linked struct{ sdktrace.Sampler }

// ShouldSample decides on a span.
func (l linked) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if !trace.SpanContextFromContext(p.ParentContext).IsValid() {
		for _, link := range p.Links {
			if link.SpanContext.IsSampled() {
				return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
			}
		}
	}
	return l.Sampler.ShouldSample(p)
}
