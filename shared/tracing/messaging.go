package tracing

import (
	"context"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Message is what spans say of an event.
type Message struct {
	ID, Kind, Key, Topic string
	Sequence             int64  // 0: not known yet
	Saga                 string // correlation id; the order id in the demo
}

func (m Message) attributes(operation string) []attribute.KeyValue {
	all := []attribute.KeyValue{
		messagingSystem.String("kafka"), operationType.String(operation), operationName.String(operation),
		destination.String(m.Topic), messageID.String(m.ID), messageKey.String(m.Key), conversation.String(m.Saga),
		eventKind.String(m.Kind),
	}
	if m.Sequence > 0 {
		all = append(all, eventSequence.Int64(m.Sequence))
	}
	return all
}

// Create starts the span in which an event is written into the outbox. Its
// TraceParent goes with the event. parent is the traceparent of what caused the
// event; empty means what ctx knows.
func (t *Tracer) Create(ctx context.Context, parent string, m Message) *Span {
	if t == nil {
		return nil
	}
	_, s := t.start(WithParent(ctx, parent), "create "+m.Topic, trace.SpanKindProducer, m.attributes("create"))
	return s
}

// Place is where an event was read.
type Place struct {
	Group     string // of the consumer
	Partition int32
	Offset    int64
}

// Process starts the span of a reaction to an event, in the event's trace: from
// the handler to the end of its transaction, which it may share with others. The
// TraceParent is what the reaction's own events have as their cause.
func (t *Tracer) Process(ctx context.Context, parent string, m Message, at Place) *Span {
	if t == nil {
		return nil
	}
	attributes := append(m.attributes("process"), consumerGroup.String(at.Group),
		partition.String(strconv.Itoa(int(at.Partition))), offset.Int64(at.Offset))
	_, s := t.start(WithParent(ctx, parent), "process "+m.Topic, trace.SpanKindConsumer, attributes)
	return s
}

// maxLinks is how many events one span of the relay tells of. OpenTelemetry
// drops links beyond 128 of a span by default.
const maxLinks = 128

// Sending gathers the events that go to Kafka in one batch. Nil gathers none.
type Sending struct {
	topic     string
	partition int32
	links     []trace.Link
}

// NewSending begins a batch for a partition; with a nil tracer it is nil.
func (t *Tracer) NewSending(topic string, partition int32) *Sending {
	if t == nil {
		return nil
	}
	return &Sending{topic: topic, partition: partition}
}

// Add takes the traceparent of an event; one that nobody records, or none, is
// left out.
func (s *Sending) Add(traceParent []byte) {
	if sc, ok := parse(traceParent); s != nil && ok && sc.IsSampled() {
		s.links = append(s.links, trace.Link{SpanContext: sc})
	}
}

// Send starts the spans in which a batch goes to Kafka, and returns what ends
// them. They begin traces of their own and are linked to the events: hours may
// lie between, and a batch holds events of many sagas.
func (t *Tracer) Send(ctx context.Context, batches ...*Sending) (end func(error)) {
	if t == nil {
		return func(error) {}
	}
	ctx = trace.ContextWithSpanContext(ctx, trace.SpanContext{})
	var spans []*Span
	for _, b := range batches {
		if b == nil {
			continue
		}
		for links := b.links; len(links) > 0; {
			n := min(maxLinks, len(links))
			_, span := t.start(ctx, "send "+b.topic, trace.SpanKindClient, []attribute.KeyValue{
				messagingSystem.String("kafka"), operationType.String("send"), operationName.String("send"), destination.String(b.topic),
				partition.String(strconv.Itoa(int(b.partition))), batchCount.Int(n),
			}, links[:n]...)
			spans, links = append(spans, span), links[n:]
		}
	}
	return func(err error) {
		for _, s := range spans {
			s.End(err)
		}
	}
}

// Work starts the span of a piece of work that a row of a table asked for, such
// as a mail: name is what is done, saga the order's id. The row has kept the
// traceparent.
func (t *Tracer) Work(ctx context.Context, parent, name, saga string) (context.Context, *Span) {
	ctx = WithParent(ctx, parent)
	if t == nil {
		return ctx, nil
	}
	return t.start(ctx, name, trace.SpanKindClient, []attribute.KeyValue{conversation.String(saga)})
}
