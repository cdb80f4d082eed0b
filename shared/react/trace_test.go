package react_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/react"
	"pavane/shared/tracing"
)

const (
	trace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	cause  = "00f067aa0ba902b7"
	parent = "00-" + trace + "-" + cause + "-01"
)

// traced is a record of a trace.
func (r *rig) traced(key string, n int64, do string) broker.Record {
	rec := r.record(key, n, do)
	rec.Headers = append(rec.Headers, event.Header{Key: "traceparent", Value: []byte(parent)})
	return rec
}

func TestConsumer_Traced_EachReactionIsASpanOfItsEventsTraceAndWhatItTellsGoesOn(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		spans := tracetest.NewSpanRecorder()
		tracer := tracing.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
		c := r.consumer(func(cfg *react.ConsumerConfig) { cfg.Tracer = tracer })
		r.deliver(c, r.traced("a", 1, ""), r.traced("b", 1, ""), r.traced("b", 1, ""), r.traced("c", 1, "permanent"))
		var ended, failed []string
		for _, s := range spans.Ended() {
			if s.SpanContext().TraceID().String() != trace || s.Parent().SpanID().String() != cause {
				t.Errorf("span %s of trace %s below %s", s.Name(), s.SpanContext().TraceID(), s.Parent().SpanID())
			}
			if s.Status().Code.String() == "Error" {
				failed = append(failed, s.SpanContext().SpanID().String())
				continue
			}
			ended = append(ended, s.SpanContext().SpanID().String())
		}
		// The batch fails with c in it, and is done in parts: only what stands is no failure.
		if len(ended) != 2 || len(failed) == 0 || len(spans.Started()) != len(spans.Ended()) {
			t.Errorf("%d spans without and %d with a failure, %d begun; want 2, some, and all ended", len(ended), len(failed), len(spans.Started()))
		}
		for _, key := range []string{"a", "b"} {
			got := string(event.TraceParent(selected[[]byte](r, `select headers from outbox where key = $1`, key)[0]))
			if parts := strings.Split(got, "-"); len(parts) != 4 || parts[1] != trace || !slices.Contains(ended, parts[2]) {
				t.Errorf("what came of %s goes on with %q, want one of the spans %q", key, got, ended)
			}
		}
	})
}

func TestConsumer_NotTraced_PassesTheTraceOnAsItCame(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		r.deliver(r.consumer(), r.traced("a", 1, ""))
		headers := selected[[]byte](r, `select headers from outbox where key = 'a'`)[0]
		if !bytes.Contains(headers, []byte(parent)) {
			t.Errorf("headers %q lack %s", headers, parent)
		}
	})
}
