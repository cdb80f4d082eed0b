// Package story owns what one service can tell of one key: the events it wrote
// and when and where they went to Kafka, what it has applied of others' events,
// and what waits. Everything is read from tables the service keeps anyway; when
// nobody asks, the story costs nothing.
package story

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/inbox"
	"pavane/shared/postgres"
)

// Story is what one service knows of a key. Its lists are empty, never null.
type Story struct {
	Key     string    `json:"key"`
	Written []Written `json:"written" doc:"Events this service wrote, in order."`
	Applied []Applied `json:"applied" doc:"How far this service has applied the events of each source."`
	Parked  []Parked  `json:"parked" doc:"Records that wait here."`

	KeptSince *time.Time `json:"kept_since,omitempty" doc:"Events that this service wrote before may be gone: its outbox keeps them no longer. Absent: nothing was dropped yet."`
}

// Written is one event of the outbox. The times are those of the service's
// database. PlannedAt is empty before the relay has taken the event up, AckedAt
// before Kafka has it; both, too, when the journal no longer goes back so far.
type Written struct {
	Sequence      int64           `json:"sequence"`
	Kind          string          `json:"kind"`
	ID            string          `json:"id"`
	CorrelationID string          `json:"correlation_id,omitempty"`
	CausationID   string          `json:"causation_id,omitempty"`
	TraceParent   string          `json:"traceparent,omitempty"`
	CreatedAt     time.Time       `json:"created_at"`
	PlannedAt     *time.Time      `json:"planned_at,omitempty"`
	AckedAt       *time.Time      `json:"acked_at,omitempty"`
	Topic         string          `json:"topic"`
	Partition     int32           `json:"partition"`
	Offset        *int64          `json:"offset,omitempty" doc:"Place in the partition. Missing until Kafka has the event, or when it did not say where a repeated one lies."`
	Data          json.RawMessage `json:"data"`

	row int64  // id in the outbox
	xid string // its transaction
}

// Applied is a position of the inbox.
type Applied struct {
	Source       string    `json:"source"`
	LastSequence int64     `json:"last_sequence"`
	AppliedAt    time.Time `json:"applied_at"`
}

// Parked is a record that waits.
type Parked struct {
	Source    string      `json:"source"`
	Sequence  int64       `json:"sequence"`
	Kind      string      `json:"kind"`
	Topic     string      `json:"topic"`
	Partition int32       `json:"partition"`
	Offset    int64       `json:"offset"`
	Cause     inbox.Cause `json:"cause"`
	Reason    string      `json:"reason"`
	Attempts  int         `json:"attempts"`
	ParkedAt  time.Time   `json:"parked_at"`
}

const (
	// The outbox has no index on the key: it would cost every writer for the
	// sake of this view. The scan is bounded by the retention.
	writtenSQL = `select o.id, o.xid::text, o.sequence, o.type, o.event_id, o.headers, o.payload, o.topic, o.created_at
from outbox o where o.key = $1 and not outbox_replaced(o.key, o.topic, o.id, o.xid) order by o.id limit 1000`

	appliedSQL = `select i.source, i.last_seq, i.applied_at from inbox i where i.key = $1 order by i.source`

	parkedSQL = `select p.source, p.sequence, p.type, p.topic, p.partition, p.record_offset, p.cause, p.reason, p.attempts, p.parked_at
from parked p where p.key = $1 order by p.source, p.sequence, p.record_offset limit 1000`

	keptSQL = `select max(r.since) from outbox_reach r`
)

// Load tells the story of a key. Partitions is the number of partitions of each
// topic. A key nobody knows has an empty story. All of it is of one moment.
func Load(ctx context.Context, db *postgres.DB, key string, partitions int) (Story, error) {
	var s Story
	err := db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
		s = Story{Key: key, Written: []Written{}, Applied: []Applied{}, Parked: []Parked{}}
		if err = s.written(ctx, tx, partitions); err != nil {
			return err
		}
		if err = tx.GetContext(ctx, &s.KeptSince, keptSQL); err != nil {
			return fmt.Errorf("how far the outbox goes back: %w", err)
		}
		if err = s.applied(ctx, tx); err != nil {
			return err
		}
		return s.parked(ctx, tx)
	})
	if err != nil {
		return Story{}, fmt.Errorf("story of %q: %w", key, err)
	}
	return s, nil
}

func (s *Story) written(ctx context.Context, tx *sqlx.Tx, partitions int) error {
	rows, err := tx.QueryContext(ctx, writtenSQL, s.Key)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var (
			w           Written
			extra, data []byte
		)
		if err := rows.Scan(&w.row, &w.xid, &w.Sequence, &w.Kind, &w.ID, &extra, &data, &w.Topic, &w.CreatedAt); err != nil {
			return err
		}
		stored := event.Stored{ID: []byte(w.ID), Kind: []byte(w.Kind), Key: []byte(s.Key), Sequence: w.Sequence, Time: w.CreatedAt, Extra: extra}
		headers, err := stored.Headers()
		if err != nil {
			return fmt.Errorf("outbox row %d: %w", w.row, err)
		}
		for _, h := range headers {
			switch h.Key {
			case "ce_correlationid":
				w.CorrelationID = string(h.Value)
			case "ce_causationid":
				w.CausationID = string(h.Value)
			case "traceparent":
				w.TraceParent = string(h.Value)
			}
		}
		w.Data, w.Partition = data, broker.Partition([]byte(s.Key), partitions)
		s.Written = append(s.Written, w)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for i := range s.Written {
		if err := s.Written[i].journey(ctx, tx, partitions); err != nil {
			return err
		}
	}
	return nil
}

func (s *Story) applied(ctx context.Context, tx *sqlx.Tx) error {
	rows, err := tx.QueryContext(ctx, appliedSQL, s.Key)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var a Applied
		if err := rows.Scan(&a.Source, &a.LastSequence, &a.AppliedAt); err != nil {
			return err
		}
		s.Applied = append(s.Applied, a)
	}
	return rows.Err()
}

func (s *Story) parked(ctx context.Context, tx *sqlx.Tx) error {
	rows, err := tx.QueryContext(ctx, parkedSQL, s.Key)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var p Parked
		if err := rows.Scan(&p.Source, &p.Sequence, &p.Kind, &p.Topic, &p.Partition, &p.Offset, &p.Cause, &p.Reason, &p.Attempts, &p.ParkedAt); err != nil {
			return err
		}
		s.Parked = append(s.Parked, p)
	}
	return rows.Err()
}
