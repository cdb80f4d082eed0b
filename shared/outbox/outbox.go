// Package outbox owns the writing side of the outbox table: events become rows
// in the transaction of the change that they tell of. There is no way to append
// without one. A row that one statement changes is changed and told of by
// [Outbox.Change], or by [Outbox.ChangeNow] when it is all of its transaction; for
// everything else there is [Outbox.Append].
package outbox

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/event"
	"pavane/shared/postgres"
	"pavane/shared/tracing"
)

// DefaultMaxBytes is the default limit for the data of one event. It stays
// below Kafka's default message.max.bytes (1 MiB) with room for headers, so
// the broker never refuses what the database has accepted.
const DefaultMaxBytes = 900 << 10

// Config says whose events these are. Source and Topics are required.
type Config struct {
	Source   string                // CloudEvents source, "/order-svc"
	Topics   event.Topics          // where each kind goes
	MaxBytes int                   // limit for one event's data, from 1 on; 0 means DefaultMaxBytes
	Tracer   *tracing.Tracer       // of the appends; nil: no spans
	Metrics  prometheus.Registerer // nil: none
}

// Outbox appends the events of one service.
type Outbox struct {
	cfg       Config
	one, many string // the inserts; each also rings for a relay that sleeps
	ring      string // the condition that does
	wake      chan struct{}
	appended  *prometheus.CounterVec // nil without metrics
}

// %s is the condition that rings the bell ([postgres.Ring]).
const (
	into          = "insert into outbox (topic, key, sequence, event_id, type, headers, payload)\n"
	insertOneSQL  = into + `select $1, $2, $3, $4, $5, $6, $7 where %s`
	insertManySQL = into + `select t.topic, t.key, t.sequence, t.event_id, t.type, t.headers, t.payload
from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::bytea[]) with ordinality
  as t (topic, key, sequence, event_id, type, headers, payload, place) where (select %s) order by t.place`
)

// New checks the config. It touches no database: the transaction that events
// are appended in brings its own.
func New(cfg Config) (*Outbox, error) {
	if cfg.Source == "" || len(cfg.Topics) == 0 {
		return nil, fmt.Errorf("outbox: source %q, %d topics: both are required", cfg.Source, len(cfg.Topics))
	}
	if cfg.MaxBytes < 0 {
		return nil, fmt.Errorf("outbox: MaxBytes=%d would refuse every event: choose one above 0, or 0 for %d", cfg.MaxBytes, DefaultMaxBytes)
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	ring := postgres.Ring("outbox")
	o := &Outbox{cfg: cfg, one: fmt.Sprintf(insertOneSQL, ring), many: fmt.Sprintf(insertManySQL, ring), ring: ring, wake: make(chan struct{}, 1)}
	if cfg.Metrics != nil {
		o.appended = prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pavane_outbox_appended_total", Help: "Events committed by this instance, by kind.",
		}, []string{"kind"})
		cfg.Metrics.MustRegister(o.appended)
	}
	return o, nil
}

// Wake delivers after each committed append of this process; the relay listens
// to it. Polling stays the truth: a lost wake-up costs time, not an event.
func (o *Outbox) Wake() <-chan struct{} { return o.wake }

// Append adds events to the outbox in tx, in the order given. The caller holds
// the lock of each key's row and took the sequences from its version. An event
// goes on with the trace of its cause, else with that of ctx, which is the one
// that [postgres.DB.InTx] gave: with another one the relay is not woken and finds
// the events when it looks next. What no reader could decode is an error, and
// nothing is written.
func (o *Outbox) Append(ctx context.Context, tx *sqlx.Tx, events ...event.Numbered) (err error) {
	if len(events) == 0 {
		return nil
	}
	var spans tracing.Spans
	defer func() { spans.End(err) }()
	if err := dense(events); err != nil {
		return err
	}
	rows, err := o.rows(ctx, events, &spans)
	if err != nil {
		return err
	}
	postgres.OnCommit(ctx, func() { o.committed(rows) })
	if len(rows) == 1 {
		return o.insertOne(ctx, tx, rows[0])
	}
	return o.insertMany(ctx, tx, rows)
}

// committed counts the events and wakes the relay.
func (o *Outbox) committed(rows []row) {
	if o.appended != nil {
		for i := range rows {
			o.appended.WithLabelValues(rows[i].kind).Inc()
		}
	}
	select {
	case o.wake <- struct{}{}:
	default: // a signal waits already
	}
}

// headerRoom is what the stored headers of an event take, as a rule.
const headerRoom = 192

type row struct {
	topic, key, id, kind string
	sequence             int64
	headers, payload     []byte
}

// dense checks the numbers of events.
func dense(events []event.Numbered) error {
	last := make(map[string]int64, 1)
	for _, e := range events {
		kind, key := e.Event.Kind(), e.Event.Key()
		if e.Sequence < 1 {
			return fmt.Errorf("outbox: %s of key %q has sequence %d; want a number from 1 on", kind, key, e.Sequence)
		}
		if before, ok := last[key]; ok && e.Sequence != before+1 {
			return fmt.Errorf("outbox: %s of key %q has sequence %d after %d; sequences of a key are dense", kind, key, e.Sequence, before)
		}
		last[key] = e.Sequence
	}
	return nil
}

// rows makes the rows of events, and refuses what no reader could decode.
func (o *Outbox) rows(ctx context.Context, events []event.Numbered, spans *tracing.Spans) (_ []row, err error) {
	rows := make([]row, len(events))
	for i, e := range events {
		if rows[i], err = o.row(ctx, e, spans); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func (o *Outbox) row(ctx context.Context, n event.Numbered, spans *tracing.Spans) (row, error) {
	kind, key := n.Event.Kind(), n.Event.Key()
	topic, err := o.cfg.Topics.Of(kind)
	if err != nil {
		return row{}, fmt.Errorf("outbox: %w", err)
	}
	if key == "" {
		return row{}, fmt.Errorf("outbox: %s has no key", kind)
	}
	data, err := json.Marshal(n.Event)
	if err != nil {
		return row{}, fmt.Errorf("outbox: %s of key %q: %w", kind, key, err)
	}
	if len(data) > o.cfg.MaxBytes {
		return row{}, fmt.Errorf("outbox: %s of key %q has %d bytes; the limit is %d", kind, key, len(data), o.cfg.MaxBytes)
	}
	e := event.Envelope{
		ID: event.NewID(), Source: o.cfg.Source, Kind: kind, Key: key, Sequence: n.Sequence, CorrelationID: key,
	}
	if cause := n.Cause; cause != nil {
		e.CausationID, e.TraceParent = cause.ID, cause.TraceParent
		if cause.CorrelationID != "" {
			e.CorrelationID = cause.CorrelationID
		}
	} else {
		e.TraceParent = tracing.TraceParent(ctx)
	}
	if err := e.Check(); err != nil {
		return row{}, fmt.Errorf("outbox: %.40s of key %.40q: %w", kind, key, err)
	}
	if o.cfg.Tracer != nil {
		span := o.cfg.Tracer.Create(ctx, e.TraceParent, tracing.Message{
			ID: e.ID, Kind: kind, Key: key, Topic: topic, Sequence: n.Sequence, Saga: e.CorrelationID,
		})
		spans.Add(span)
		e.TraceParent = span.TraceParent()
	}
	return row{
		topic: topic, key: key, id: e.ID, kind: kind, sequence: n.Sequence,
		headers: event.AppendHeaders(make([]byte, 0, headerRoom), e.Extra()), payload: data,
	}, nil
}

func (o *Outbox) insertOne(ctx context.Context, tx *sqlx.Tx, r row) error {
	_, err := tx.ExecContext(ctx, o.one, r.topic, r.key, r.sequence, r.id, r.kind, r.headers, r.payload)
	if err != nil {
		return fmt.Errorf("outbox: append %s of key %q: %w", r.kind, r.key, err)
	}
	return nil
}

func (o *Outbox) insertMany(ctx context.Context, tx *sqlx.Tx, rows []row) error {
	c := columnsOf(rows)
	_, err := tx.ExecContext(ctx, o.many, postgres.Array(c.topics), postgres.Array(c.keys), postgres.Array(c.sequences),
		postgres.Array(c.ids), postgres.Array(c.kinds), postgres.Array(c.headers), postgres.Array(c.payloads))
	if err != nil {
		return fmt.Errorf("outbox: append %d events: %w", len(rows), err)
	}
	return nil
}

// columns are rows as the arrays that a statement takes.
type columns struct {
	topics, keys, ids, kinds []string
	sequences                []int64
	headers, payloads        [][]byte
}

func columnsOf(rows []row) (c columns) {
	for _, r := range rows {
		c.topics, c.keys, c.ids, c.kinds = append(c.topics, r.topic), append(c.keys, r.key), append(c.ids, r.id), append(c.kinds, r.kind)
		c.sequences, c.headers, c.payloads = append(c.sequences, r.sequence), append(c.headers, r.headers), append(c.payloads, r.payload)
	}
	return c
}
