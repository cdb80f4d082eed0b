package outbox_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/tracing"
)

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestAppend_InATrace_TheEventGoesOnWithIt(t *testing.T) {
	db, plain := setup(t)
	spans := tracetest.NewSpanRecorder()
	traced, err := outbox.New(outbox.Config{
		Source: "/test", Topics: event.Topics{"fact": "facts.v1"}, Tracer: tracing.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))),
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, out := range map[string]*outbox.Outbox{"plain": plain, "traced": traced} {
		err := db.InTx(tracing.WithParent(t.Context(), parent), func(ctx context.Context, tx *sqlx.Tx) error {
			return out.Append(ctx, tx, event.Number(1, told{ID: key})...)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range stored(t, db) {
		want := parent
		if e.Key == "traced" {
			s := spans.Ended()[0]
			want = "00-" + s.SpanContext().TraceID().String() + "-" + s.SpanContext().SpanID().String() + "-01"
			if s.Parent().SpanID().String() != "00f067aa0ba902b7" || !strings.HasPrefix(want, parent[:35]) {
				t.Errorf("the append is %s below %s", want, s.Parent().SpanID())
			}
		}
		if e.TraceParent != want {
			t.Errorf("%s goes on with %q, want %q", e.Key, e.TraceParent, want)
		}
	}
}
