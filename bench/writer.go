package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/postgres"
)

const source = "/bench"

// placed is the event that writers append.
type placed struct {
	key  string
	data json.RawMessage
}

func (placed) Kind() string                   { return kind }
func (p placed) Key() string                  { return p.key }
func (p placed) MarshalJSON() ([]byte, error) { return p.data, nil }

// writer writes orders and their events, as the code of a service would.
type writer struct {
	db    *postgres.DB
	way   way
	topic string
	out   *outbox.Outbox
	// payloads are made beforehand: what an event says is there before it is
	// written, and no cost of the outbox.
	payloads [64]json.RawMessage
}

// newWriter makes one with its own connections; the caller closes its db. Each
// commit takes flush longer, together with those that wait meanwhile.
func (t *trial) newWriter(w way, conns int, flush time.Duration) (*writer, error) {
	db, err := t.open(t.name, conns, map[string]string{"commit_delay": fmt.Sprint(flush.Microseconds()), "commit_siblings": "0"})
	if err != nil {
		return nil, err
	}
	out, err := outbox.New(outbox.Config{Source: source, Topics: event.Topics{"bench": t.name}})
	if err != nil {
		return nil, err
	}
	writer := &writer{db: db, way: w, topic: t.name, out: out}
	for n := range writer.payloads {
		writer.payloads[n] = newItem(n).payload
	}
	return writer, nil
}

// order writes an order and n events of one key, the first of them numbered
// first, in a transaction; n = 0: the order alone.
func (w *writer) order(ctx context.Context, key string, first int64, n int) error {
	return w.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		return w.orderIn(ctx, tx, key, first, n)
	})
}

func (w *writer) orderIn(ctx context.Context, tx *sqlx.Tx, key string, first int64, n int) error {
	if _, err := tx.ExecContext(ctx, `insert into orders (customer, total) values ($1, $2)`, key, first); err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	events := make([]event.Event, n)
	for i := range events {
		events[i] = placed{key: key, data: w.payloads[(int(first)+i)%len(w.payloads)]}
	}
	numbered := event.Number(first, events...)
	if w.way.poll == 0 {
		return w.out.Append(ctx, tx, numbered...)
	}
	return w.textbook(ctx, tx, numbered)
}

const placeSQL = `insert into orders (customer, total) values ($1, $2) returning 1`

// change writes an order and its event by one statement in a transaction.
func (w *writer) change(ctx context.Context, key string) error {
	return w.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := w.out.Change(ctx, tx, w.told(key), placeSQL, key, 1)
		return err
	})
}

// changeNow writes both by a statement that is a transaction of its own.
func (w *writer) changeNow(ctx context.Context, key string) error {
	_, err := w.out.ChangeNow(ctx, w.db, w.told(key), placeSQL, key, 1)
	return err
}

func (w *writer) told(key string) []event.Event {
	return []event.Event{placed{key: key, data: w.payloads[1]}}
}

const (
	textbookOneSQL = `insert into textbook_outbox (event_id, topic, key, headers, payload) values ($1, $2, $3, $4, $5)`
	textbookAllSQL = `insert into textbook_outbox (event_id, topic, key, headers, payload)
select u.event_id, u.topic, u.key, u.headers, u.payload
from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::jsonb[]) with ordinality as u (event_id, topic, key, headers, payload, place)
order by u.place`
)

// textbook appends events with the same content to the textbook's outbox.
func (w *writer) textbook(ctx context.Context, tx *sqlx.Tx, events []event.Numbered) error {
	var ids, topics, keys, headers, payloads []string
	for _, n := range events {
		id := event.NewID()
		data, err := json.Marshal(n.Event)
		if err != nil {
			return err
		}
		of, err := headerObject(event.Envelope{
			ID: id, Source: source, Kind: kind, Key: n.Event.Key(), Sequence: n.Sequence, Time: time.Now(), CorrelationID: n.Event.Key(),
		}.Headers())
		if err != nil {
			return err
		}
		ids, topics, keys = append(ids, id), append(topics, w.topic), append(keys, n.Event.Key())
		headers, payloads = append(headers, of), append(payloads, string(data))
	}
	if len(events) == 1 {
		_, err := tx.ExecContext(ctx, textbookOneSQL, ids[0], topics[0], keys[0], headers[0], payloads[0])
		return err
	}
	_, err := tx.ExecContext(ctx, textbookAllSQL, postgres.Array(ids), postgres.Array(topics), postgres.Array(keys),
		postgres.Array(headers), postgres.Array(payloads))
	return err
}

func headerObject(headers []event.Header) (string, error) {
	object := make(map[string]string, len(headers))
	for _, h := range headers {
		object[h.Key] = string(h.Value)
	}
	b, err := json.Marshal(object)
	if err != nil {
		return "", fmt.Errorf("headers: %w", err)
	}
	return string(b), nil
}

// written counts the rows of the trial's outbox.
func (t *trial) written(ctx context.Context) (n int, err error) {
	err = t.db.Get(ctx, &n, "select count(*) from "+t.way.table)
	return n, err
}

var errReleased = errors.New("released")

// holdOpen writes an order and its event and leaves the transaction open until
// end; then it rolls back.
func (w *writer) holdOpen(ctx context.Context, began chan<- error, end <-chan struct{}) error {
	return w.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := w.orderIn(ctx, tx, "held", 1, 1); err != nil {
			return err
		}
		began <- nil
		select {
		case <-end:
			return errReleased
		case <-ctx.Done():
			return errReleased
		}
	})
}
