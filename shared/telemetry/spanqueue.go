package telemetry

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// spanCounter counts what becomes of each span. OpenTelemetry's own queue drops
// without a word, so nothing is put there that has no room.
type spanCounter struct {
	sdktrace.SpanExporter
	logger                    *slog.Logger
	waiting                   atomic.Int64
	exported, failed, dropped prometheus.Counter
	failing                   atomic.Bool // the last export failed: it is logged once
}

func newSpanCounter(e sdktrace.SpanExporter, logger *slog.Logger, metrics prometheus.Registerer) *spanCounter {
	spans := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pavane_trace_spans_total",
		Help: "Spans, by what became of them: exported, failed (the collector did not take them) or dropped (too many waited).",
	}, []string{"outcome"})
	if metrics != nil {
		metrics.MustRegister(spans)
	}
	return &spanCounter{
		SpanExporter: e, logger: logger,
		exported: spans.WithLabelValues("exported"), failed: spans.WithLabelValues("failed"), dropped: spans.WithLabelValues("dropped"),
	}
}

// ExportSpans sends spans and keeps an error to itself: nobody could do anything
// with it but count.
func (q *spanCounter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	defer q.waiting.Add(-int64(len(spans)))
	if err := q.SpanExporter.ExportSpans(ctx, spans); err != nil {
		q.failed.Add(float64(len(spans)))
		if !q.failing.Swap(true) {
			q.logger.WarnContext(ctx, "spans are lost: the collector does not take them; is OTEL_EXPORTER_OTLP_ENDPOINT right?", "error", err)
		}
		return nil
	}
	q.exported.Add(float64(len(spans)))
	if q.failing.Swap(false) {
		q.logger.InfoContext(ctx, "the collector takes spans again")
	}
	return nil
}

// bounded lets no more spans wait than there is room for.
type bounded struct {
	sdktrace.SpanProcessor
	counter *spanCounter
}

// OnEnd takes a span that has ended. It never blocks.
func (b bounded) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if b.counter.waiting.Add(1) > spanQueue {
		b.counter.waiting.Add(-1)
		b.counter.dropped.Inc()
		return
	}
	b.SpanProcessor.OnEnd(s)
}
