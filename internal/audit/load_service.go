package audit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
)

const (
	// A row that was held back and copied later is not published.
	outboxSQL = `select id, topic, key, sequence, event_id, type, headers, payload, created_at from outbox o
where not exists (select from relay_released r where r.key = o.key) or not outbox_replaced(o.key, o.topic, o.id, o.xid) order by id`
	inboxSQL   = `select source, key, last_seq from inbox`
	offsetsSQL = `select topic, partition, next_offset from inbox_offset`
	parkedSQL  = `select source, key, sequence, type, reason from parked
union all select 'its own outbox', p.key, o.sequence, o.type, p.reason from relay_parked p join outbox o on o.id = p.since_id
order by source, key, sequence limit 100`

	// The outbox was made on the day of its first migration; when its oldest
	// daily partition is younger, older ones were dropped.
	keptFromSQL = `select coalesce(
  (select to_date(right(min(c.relname), 8), 'YYYYMMDD')::timestamp at time zone 'UTC'
   from pg_inherits i join pg_class c on c.oid = i.inhrelid
   where i.inhparent = 'outbox'::regclass and c.relname ~ '^outbox_[0-9]{8}$'
   having to_date(right(min(c.relname), 8), 'YYYYMMDD') >
     (select min(tstamp at time zone current_setting('TimeZone') at time zone 'UTC')::date from migrations_kit)),
  '0001-01-01 00:00:00+00'::timestamptz)`
)

// each runs a query and calls f for each row, after which the row is gone.
func each(ctx context.Context, tx *sqlx.Tx, what, query string, f func(rows *sqlx.Rows) error) error {
	rows, err := tx.QueryxContext(ctx, query)
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err says it
	for rows.Next() {
		if err := f(rows); err != nil {
			return fmt.Errorf("read %s: %w", what, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}

// loadService reads the kit's tables.
func loadService(ctx context.Context, tx *sqlx.Tx, d *Data, s *Service) error {
	if err := tx.GetContext(ctx, &s.KeptFrom, keptFromSQL); err != nil {
		return fmt.Errorf("read the age of the outbox: %w", err)
	}
	if s.KeptFrom.Year() == 1 {
		s.KeptFrom = time.Time{}
	}
	if err := loadOutbox(ctx, tx, d, s); err != nil {
		return err
	}
	err := each(ctx, tx, "inbox", inboxSQL, func(rows *sqlx.Rows) error {
		var st Stream
		var last int64
		err := rows.Scan(&st.Source, &st.Key, &last)
		if !d.share.has(st.Key) {
			return err
		}
		d.same(&st.Source)
		d.same(&st.Key)
		s.Inbox[st] = last
		return err
	})
	if err != nil {
		return err
	}
	err = each(ctx, tx, "inbox_offset", offsetsSQL, func(rows *sqlx.Rows) error {
		var p Part
		var next int64
		err := rows.Scan(&p.Topic, &p.Partition, &next)
		s.Offsets[p] = next
		return err
	})
	if err != nil {
		return err
	}
	return each(ctx, tx, "parked", parkedSQL, func(rows *sqlx.Rows) error {
		var p Parked
		err := rows.Scan(&p.Stream.Source, &p.Stream.Key, &p.Sequence, &p.Kind, &p.Reason)
		if d.share.has(p.Stream.Key) {
			s.Parked = append(s.Parked, p)
		}
		return err
	})
}

func loadOutbox(ctx context.Context, tx *sqlx.Tx, d *Data, s *Service) error {
	return each(ctx, tx, "outbox", outboxSQL, func(rows *sqlx.Rows) error {
		var r Row
		var extra, payload []byte
		if err := rows.Scan(&r.ID, &r.Topic, &r.Stream.Key, &r.Sequence, &r.EventID, &r.Kind, &extra, &payload, &r.Time); err != nil {
			return err
		}
		if !d.share.has(r.Stream.Key) {
			return nil
		}
		stored := event.Stored{ID: []byte(r.EventID), Kind: []byte(r.Kind), Key: []byte(r.Stream.Key), Sequence: r.Sequence, Time: r.Time, Extra: extra}
		headers, err := stored.AppendHeaders(nil)
		if err != nil {
			return fmt.Errorf("row %d: %w", r.ID, err)
		}
		r.Stream.Source = s.Source
		d.same(&r.Stream.Key)
		d.same(&r.Kind)
		r.Sum = sum(headers, payload)
		r.Topic = intern(s.Reads, r.Topic)
		s.Rows = append(s.Rows, r)
		return nil
	})
}

// intern keeps one copy of the few names that come again and again.
func intern(known []string, name string) string {
	for _, k := range known {
		if k == name {
			return k
		}
	}
	return strings.Clone(name)
}
