package relay

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"pavane/shared/event"
	"pavane/shared/postgres"
)

// Row is a row of the outbox, for operators. The relay itself never takes one
// apart.
type Row struct {
	ID       int64
	Topic    string
	Key      string
	Sequence int64
	EventID  string
	Kind     string
	Headers  []event.Header
	Payload  []byte
	Time     time.Time // when it was appended
}

const (
	// rowColumns are what scanRow reads; both belong together.
	rowColumns = `o.id, o.topic, o.key, o.sequence, o.event_id, o.type, o.headers, o.payload, o.created_at`

	heldRowsSQL = `select ` + rowColumns + ` from outbox o
where o.id >= (select min(p.since_id) from relay_parked p where p.key = $1) and ` + heldBack + ` order by o.id limit $2`
)

// scanRow is the one place that knows how a row becomes the record it is.
func scanRow(rows *sql.Rows) (r Row, err error) {
	var extra []byte
	if err := rows.Scan(&r.ID, &r.Topic, &r.Key, &r.Sequence, &r.EventID, &r.Kind, &extra, &r.Payload, &r.Time); err != nil {
		return Row{}, err
	}
	stored := event.Stored{ID: []byte(r.EventID), Kind: []byte(r.Kind), Key: []byte(r.Key), Sequence: r.Sequence, Time: r.Time, Extra: extra}
	if r.Headers, err = stored.Headers(); err != nil {
		return Row{}, fmt.Errorf("row %d: %w", r.ID, err)
	}
	return r, nil
}

// eachRow calls f for each row of a query.
func eachRow(ctx context.Context, db *postgres.DB, f func(Row) error, query string, args ...any) error {
	rows, err := db.SQL().QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scanRow(rows)
		if err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
		if err := f(r); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// HeldBack returns the rows of a key that wait because Kafka refuses the first
// of them, at most limit.
func HeldBack(ctx context.Context, db *postgres.DB, key string, limit int) ([]Row, error) {
	var list []Row
	err := eachRow(ctx, db, func(r Row) error {
		list = append(list, r)
		return nil
	}, heldRowsSQL, key, limit)
	return list, err
}

// Selection chooses rows of an outbox that are to be read again. Empty fields
// choose all.
type Selection struct {
	Since, Until time.Time // by the time they were appended; Until is not among them
	Key, Topic   string
	// Snapshot fixes the moment whose rows are meant ([Retained] draws it).
	Snapshot string
}

// Extent is what an outbox holds of a selection.
type Extent struct {
	Snapshot string
	From     time.Time // rows from before it may be gone; zero: all that was ever appended is here
	Rows     int64
	Keys     int64
	Cut      int64 // keys whose first event is not among the rows
}

const (
	// Left out are rows that were copied later, and those that Kafka refuses.
	selected = `($1::timestamptz is null or o.created_at >= $1) and ($2::timestamptz is null or o.created_at < $2)
  and ($3 = '' or o.key = $3) and ($4 = '' or o.topic = $4) and pg_visible_in_snapshot(o.xid, $5::pg_snapshot)` + notReplaced + `
  and not exists (select from relay_parked p where p.key = o.key and p.since_id <= o.id)`

	retainedSQL = `select pg_current_snapshot()::text, (select r.since from outbox_reach r)`
	extentSQL   = `select coalesce(sum(k.rows), 0), count(*), count(*) filter (where k.first > 1)
from (select o.key, count(*) as rows, min(o.sequence) as first from outbox o where ` + selected + ` group by o.key) k`
	replaySQL = `select ` + rowColumns + ` from outbox o where o.id > $6 and ` + selected + ` order by o.id limit $7`
)

func (s Selection) args() []any {
	return []any{sql.Null[time.Time]{V: s.Since, Valid: !s.Since.IsZero()}, sql.Null[time.Time]{V: s.Until, Valid: !s.Until.IsZero()}, s.Key, s.Topic, s.Snapshot}
}

// Retained looks what an outbox holds of a selection now.
func Retained(ctx context.Context, db *postgres.DB, s Selection) (Extent, error) {
	var (
		e    Extent
		from sql.Null[time.Time]
	)
	if err := db.SQL().QueryRowContext(ctx, retainedSQL).Scan(&e.Snapshot, &from); err != nil {
		return Extent{}, fmt.Errorf("outbox: how far it reaches back: %w", err)
	}
	s.Snapshot, e.From = e.Snapshot, from.V
	if err := db.SQL().QueryRowContext(ctx, extentSQL, s.args()...).Scan(&e.Rows, &e.Keys, &e.Cut); err != nil {
		return Extent{}, fmt.Errorf("outbox: rows of the selection: %w", err)
	}
	return e, nil
}

// ReadAgain returns the selected rows behind one, in the order in which those of
// a key were committed, at most limit.
func ReadAgain(ctx context.Context, db *postgres.DB, s Selection, after int64, limit int) ([]Row, error) {
	var list []Row
	err := eachRow(ctx, db, func(r Row) error {
		list = append(list, r)
		return nil
	}, replaySQL, append(s.args(), after, limit)...)
	return list, err
}
