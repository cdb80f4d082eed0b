package story

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
)

const (
	// The journal's targets grow with the chunk's number, so the first set that
	// sees a row is found by halving, over the primary key alone: "seen" is a
	// chunk whose target sees the row, "unseen" is one before it whose does not.
	chunkSQL = `with recursive ends as (
  select min(j.chunk) - 1 as unseen, max(j.chunk) as seen from relay_journal j),
search (unseen, seen) as (
  select e.unseen, e.seen from ends e join relay_journal j on j.chunk = e.seen where pg_visible_in_snapshot($1::xid8, j.target)
  union all
  select case when v.visible then s.unseen else v.chunk end, case when v.visible then v.chunk else s.seen end
  from search s
  join lateral (
    select j.chunk, pg_visible_in_snapshot($1::xid8, j.target) as visible from relay_journal j
    where j.chunk > s.unseen and j.chunk < s.seen and j.chunk >= (s.unseen + s.seen) / 2 order by j.chunk limit 1) v on true)
select j.prev::text, j.target::text, j.after_id, j.planned_at, a.acked_at, (a.offsets ->> $3::text)::bigint
from relay_journal j left join relay_ack a on a.chunk = j.chunk
where j.chunk >= (select min(s.seen) from search s)
  and j.after_id < $2 and j.upto_id >= $2 and not pg_visible_in_snapshot($1::xid8, j.prev)
  and not exists (select 1 from outbox o join relay_parked p on p.key = o.key and p.topic = o.topic and p.since_id <= o.id where o.id = $2)
order by j.chunk limit 1`

	// The chunk's rows before this one, in the order in which they went. Rows of
	// a key that Kafka refused did not go.
	beforeSQL = `select o.key from outbox o
where o.id > $1 and o.id < $2 and o.topic = $3
  and pg_visible_in_snapshot(o.xid, $4::pg_snapshot) and not pg_visible_in_snapshot(o.xid, $5::pg_snapshot)
  and not exists (select 1 from relay_parked p where p.key = o.key and p.topic = o.topic and p.since_id <= o.id)
  and not outbox_replaced(o.key, o.topic, o.id, o.xid)`
)

// journey adds to an event what the relay's journal knows of it. The chunk that
// holds a row is the one whose set sees it first and whose ids span it
// (shared/relay cuts a set by id).
func (w *Written) journey(ctx context.Context, tx *sqlx.Tx, partitions int) error {
	var (
		prev, target   string
		after          int64
		planned, acked sql.Null[time.Time]
		first          sql.Null[int64]
	)
	place := fmt.Sprintf("%s/%d", w.Topic, w.Partition)
	err := tx.QueryRowContext(ctx, chunkSQL, w.xid, w.row, place).Scan(&prev, &target, &after, &planned, &acked, &first)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if planned.Valid {
		w.PlannedAt = &planned.V
	}
	if !acked.Valid {
		return nil
	}
	w.AckedAt = &acked.V
	if !first.Valid || first.V < 0 {
		return nil
	}
	var keys []string
	if err := tx.SelectContext(ctx, &keys, beforeSQL, after, w.row, w.Topic, target, prev); err != nil {
		return fmt.Errorf("chunk: %w", err)
	}
	offset := first.V
	for _, key := range keys {
		if broker.Partition([]byte(key), partitions) == w.Partition {
			offset++
		}
	}
	w.Offset = &offset
	return nil
}

// MarshalJSON keeps data that is not JSON, which only a hand could have put
// into the outbox, from breaking the whole story.
func (w Written) MarshalJSON() ([]byte, error) {
	type plain Written
	if !json.Valid(w.Data) {
		w.Data, _ = json.Marshal(string(w.Data)) // a string always has a JSON form
	}
	return json.Marshal(plain(w))
}
