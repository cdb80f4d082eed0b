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
	var section []byte
	if err := rows.Scan(&r.ID, &r.Topic, &r.Key, &r.Sequence, &r.EventID, &r.Kind, &section, &r.Payload, &r.Time); err != nil {
		return Row{}, err
	}
	if r.Headers, err = event.ParseHeaders(section); err != nil {
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
