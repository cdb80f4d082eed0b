// Package tracing owns what the spans of a service are called and what they
// say, and the W3C form in which a trace travels through HTTP, the outbox and
// Kafka. It needs the API of OpenTelemetry alone; who opens an exporter is
// shared/telemetry.
//
// A nil [Tracer] makes no spans and costs a comparison. Trace ids that others
// brought are passed on all the same.
package tracing

import (
	"context"
	"encoding/hex"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

const scope = "pavane"

// Tracer starts spans. Nil starts none.
type Tracer struct{ tracer trace.Tracer }

// New returns a tracer of the provider, and nil for none.
func New(p trace.TracerProvider) *Tracer {
	if p == nil {
		return nil
	}
	return &Tracer{p.Tracer(scope)}
}

// From returns a tracer that goes on with the span of ctx, and nil where that
// is not recorded.
func From(ctx context.Context) *Tracer {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return nil
	}
	return New(span.TracerProvider())
}

// Span is one piece of work. Nil is none.
type Span struct{ span trace.Span }

// start starts a span below the one that ctx knows.
func (t *Tracer) start(ctx context.Context, name string, kind trace.SpanKind, attributes []attribute.KeyValue, links ...trace.Link) (context.Context, *Span) {
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attributes...), trace.WithLinks(links...))
	return ctx, &Span{span}
}

// End ends the span. An error marks it as failed; its text is not kept, because
// it may quote data.
func (s *Span) End(err error) {
	if s == nil {
		return
	}
	if err != nil {
		s.fail("error")
	}
	s.span.End()
}

func (s *Span) fail(what string) {
	s.span.SetStatus(codes.Error, "")
	s.span.SetAttributes(errorType.String(what))
}

// Spans are several pieces of work that end together. The zero value is empty.
type Spans struct{ all []*Span }

// Add adds one.
func (s *Spans) Add(span *Span) {
	if span != nil {
		s.all = append(s.all, span)
	}
}

// End ends all and forgets them.
func (s *Spans) End(err error) {
	for _, span := range s.all {
		span.End(err)
	}
	s.all = nil
}

// TraceParent is the span as a W3C traceparent; empty for nil.
func (s *Span) TraceParent() string {
	if s == nil {
		return ""
	}
	return format(s.span.SpanContext())
}

// TraceParent is the span of ctx as a W3C traceparent, ours or a caller's; empty
// where there is none.
func TraceParent(ctx context.Context) string { return format(trace.SpanContextFromContext(ctx)) }

// WithParent returns ctx with the span of a traceparent, made elsewhere. A
// malformed or empty one leaves ctx as it is.
func WithParent(ctx context.Context, traceParent string) context.Context {
	sc, ok := parse([]byte(traceParent))
	if !ok {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, sc)
}

// The W3C form: version, trace id, span id, flags.
const (
	version    = "00"
	traceAt    = len(version) + 1
	spanAt     = traceAt + 2*len(trace.TraceID{}) + 1
	flagsAt    = spanAt + 2*len(trace.SpanID{}) + 1
	formLength = flagsAt + 2
)

func format(sc trace.SpanContext) string {
	if !sc.IsValid() {
		return ""
	}
	id, span := sc.TraceID(), sc.SpanID()
	b := make([]byte, 0, formLength)
	b = append(b, version+"-"...)
	b = append(hex.AppendEncode(b, id[:]), '-')
	b = append(hex.AppendEncode(b, span[:]), '-')
	return string(hex.AppendEncode(b, []byte{byte(sc.TraceFlags())}))
}

// parse reads version 00 alone, in lower case, as W3C Trace Context 3.2 wants.
func parse(b []byte) (trace.SpanContext, bool) {
	if len(b) != formLength || string(b[:traceAt]) != version+"-" || b[spanAt-1] != '-' || b[flagsAt-1] != '-' {
		return trace.SpanContext{}, false
	}
	var (
		c     trace.SpanContextConfig
		flags [1]byte
	)
	if !lowerHex(c.TraceID[:], b[traceAt:spanAt-1]) || !lowerHex(c.SpanID[:], b[spanAt:flagsAt-1]) || !lowerHex(flags[:], b[flagsAt:]) {
		return trace.SpanContext{}, false
	}
	c.TraceFlags, c.Remote = trace.TraceFlags(flags[0]), true
	sc := trace.NewSpanContext(c)
	return sc, sc.IsValid()
}

func lowerHex(dst, src []byte) bool {
	for _, c := range src {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	_, err := hex.Decode(dst, src)
	return err == nil
}
