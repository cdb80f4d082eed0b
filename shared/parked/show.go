package parked

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"pavane/shared/event"
	"pavane/shared/inbox"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

// Record is one record that waits.
type Record struct {
	Source    string      `json:"source,omitempty"`
	Sequence  int64       `json:"sequence"`
	Kind      string      `json:"kind"`
	Cause     inbox.Cause `json:"cause"`
	Reason    string      `json:"reason"`
	Attempts  int         `json:"attempts"`
	Topic     string      `json:"topic"`
	Partition int32       `json:"partition"` // of a record that is not in the log: -1
	Offset    int64       `json:"offset"`    // of a record that is not in the log: -1
	Since     time.Time   `json:"since"`
	Headers   []Header    `json:"headers"`
	Payload   string      `json:"payload"` // as it is, or quoted as Go text when it is no UTF-8
}

// Header is one header of a record; what is no UTF-8 is quoted as Go text.
type Header struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Move is what an operator did with the key before.
type Move struct {
	At      time.Time `db:"at" json:"at"`
	Action  string    `db:"action" json:"action"`
	Source  string    `db:"source" json:"source,omitempty"`
	First   int64     `db:"sequence" json:"first"` // numbers; of a release the rows of the outbox
	Upto    int64     `db:"upto_seq" json:"upto"`
	Records int       `db:"records" json:"records"`
	Who     string    `db:"who" json:"who"`
	Why     string    `db:"why" json:"why"`
}

const (
	recordsSQL = `select p.source, p.sequence, p.type, p.cause, p.reason, p.attempts, p.topic, p.partition, p.record_offset, p.parked_at, p.headers, p.payload
from parked p where p.key = $1 order by p.source, p.sequence, p.record_offset limit $2`
	movesSQL = `select l.at, l.action, l.source, l.sequence, l.upto_seq, l.records, l.who, l.why from parked_log l where l.key = $1
union all
select r.at, r.action, '', r.since_id, r.upto_id, r.records, r.who, r.why from relay_released r where r.key = $1
order by 1`
)

// Show returns the records of a key that wait, in order and at most limit, and
// what operators did with the key, the oldest first.
func Show(ctx context.Context, db *postgres.DB, key string, limit int) (records []Record, moves []Move, err error) {
	if records, err = waiting(ctx, db, key, limit); err != nil {
		return nil, nil, err
	}
	rows, err := relay.HeldBack(ctx, db, key, limit)
	if err != nil {
		return nil, nil, err
	}
	for i, row := range rows {
		r := Record{
			Sequence: row.Sequence, Kind: row.Kind, Cause: inbox.Follows, Reason: "waits for the refused one", Topic: row.Topic,
			Partition: -1, Offset: -1, Since: row.Time, Headers: headersOf(row.Headers), Payload: readable(row.Payload),
		}
		if i == 0 {
			r.Cause, r.Reason = Refused, "Kafka refuses it"
		}
		records = append(records, r)
	}
	if err := db.Select(ctx, &moves, movesSQL, key); err != nil {
		return nil, nil, fmt.Errorf("what was done with key %q: %w", key, err)
	}
	return records, moves, nil
}

func waiting(ctx context.Context, db *postgres.DB, key string, limit int) ([]Record, error) {
	rows, err := db.SQL().QueryContext(ctx, recordsSQL, key, limit)
	if err != nil {
		return nil, fmt.Errorf("parked records of key %q: %w", key, err)
	}
	defer rows.Close()
	var records []Record
	for rows.Next() {
		var (
			r                Record
			section, payload []byte
		)
		err := rows.Scan(&r.Source, &r.Sequence, &r.Kind, &r.Cause, &r.Reason, &r.Attempts, &r.Topic, &r.Partition, &r.Offset, &r.Since, &section, &payload)
		if err != nil {
			return nil, fmt.Errorf("parked records of key %q: %w", key, err)
		}
		list, err := event.ParseHeaders(section)
		if err != nil {
			list = []event.Header{{Key: "(unreadable)", Value: section}}
		}
		r.Headers, r.Payload = headersOf(list), readable(payload)
		records = append(records, r)
	}
	return records, rows.Err()
}

func headersOf(list []event.Header) []Header {
	headers := make([]Header, len(list))
	for i, h := range list {
		headers[i] = Header{Key: readable([]byte(h.Key)), Value: readable(h.Value)}
	}
	return headers
}

// readable returns text as it is, and other bytes quoted.
func readable(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return fmt.Sprintf("%q", b)
}
