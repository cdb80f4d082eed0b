package tracing

import (
	"context"
	"crypto/rand"
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Header is the name of the header that a trace travels in.
const Header = "Traceparent"

// Serve starts the span of a request, in the caller's trace or in a new one.
// Without a tracer, too, the request gets a span id of its own and a trace to
// pass on, so that logs and events can be found by it.
func (t *Tracer) Serve(r *http.Request) (context.Context, *Span) {
	ctx := WithParent(r.Context(), r.Header.Get(Header))
	if t == nil {
		return trace.ContextWithSpanContext(ctx, hop(trace.SpanContextFromContext(ctx))), nil
	}
	return t.start(ctx, r.Method, trace.SpanKindServer, []attribute.KeyValue{
		httpMethod.String(r.Method), urlPath.String(r.URL.Path), urlScheme.String("http"),
	})
}

// hop is a span that nobody records, as W3C Trace Context 3.2 wants of one who
// only passes a trace on.
func hop(parent trace.SpanContext) trace.SpanContext {
	c := trace.SpanContextConfig{TraceID: parent.TraceID(), TraceFlags: parent.TraceFlags()}
	if !parent.IsValid() {
		rand.Read(c.TraceID[:]) //nolint:errcheck // it never fails: crypto/rand ends the process instead
		c.TraceFlags = trace.FlagsSampled
	}
	rand.Read(c.SpanID[:]) //nolint:errcheck // as above
	return trace.NewSpanContext(c)
}

// Served ends the span of a request. It is named by its route, "GET
// /v1/orders/{id}", never by its path, of which there are as many as orders.
func (s *Span) Served(route string, status int) {
	if s == nil {
		return
	}
	if route != "" {
		s.span.SetName(route)
		s.span.SetAttributes(httpRoute.String(route))
	}
	s.answered(status, http.StatusInternalServerError)
}

// Call starts the span of a request to another service and puts it into the
// request's headers.
func (t *Tracer) Call(ctx context.Context, r *http.Request) *Span {
	if t == nil {
		if p := TraceParent(ctx); p != "" {
			r.Header.Set(Header, p)
		}
		return nil
	}
	attributes := []attribute.KeyValue{httpMethod.String(r.Method), urlFull.String(r.URL.Redacted()), serverAddress.String(r.URL.Hostname())}
	if port, err := strconv.Atoi(r.URL.Port()); err == nil {
		attributes = append(attributes, serverPort.Int(port))
	}
	_, s := t.start(ctx, r.Method, trace.SpanKindClient, attributes)
	r.Header.Set(Header, s.TraceParent())
	return s
}

// Called ends the span of a request to another service; status is 0 when there
// was no answer.
func (s *Span) Called(status int, err error) {
	if s == nil {
		return
	}
	if err != nil {
		s.End(err)
		return
	}
	s.answered(status, http.StatusBadRequest)
}

func (s *Span) answered(status, failed int) {
	s.span.SetAttributes(httpStatus.Int(status))
	if status >= failed {
		s.fail(strconv.Itoa(status))
	}
	s.span.End()
}
