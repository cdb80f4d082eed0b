package inbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/postgres"
)

const (
	// The lowest record of each id decides; the ones behind it wait for it. The
	// index is walked from head to head, because behind one key there may be any
	// number of records. An attempt that lies further off than any pause is long
	// was put there by a clock that has gone back since. A lowest one that says it
	// follows another one is judged anew: what it followed is out of the way, and
	// what is missing shows only now. One whose version was not known waits no
	// longer for those who know it.
	runnableSQL = `with recursive h as (
  (` + headColumns + ` order by p.source, p.key, p.sequence, p.record_offset limit 1)
  union all
  select n.source, n.key, n.sequence, n.topic, n.partition, n.cause, n.retry_at, n.type from h cross join lateral (
    ` + headColumns + ` where (p.source, p.key) > (h.source, h.key) order by p.source, p.key, p.sequence, p.record_offset limit 1) n)
select d.source, d.key, d.topic, d.partition from (
  select h.source, h.key, h.topic, h.partition from h left join inbox i on i.source = h.source and i.key = h.key
  where (h.cause in ('gap', 'follows') or h.cause = 'unknown_version' and h.type = any($4) or h.cause = 'retry' and (h.retry_at <= clock_timestamp() or h.retry_at > clock_timestamp() + interval '1 minute'))
    and (h.sequence - 1 <= coalesce(i.last_seq, 0) or h.cause = 'follows')
  union
  select h.source, h.key, f.topic, f.partition from h cross join lateral (` + letGo + `) f where h.sequence = 0) d
join unnest($1::text[], $2::integer[]) as t (topic, partition) on d.topic = t.topic and d.partition = t.partition
order by d.source, d.key limit $3`
	headColumns = `select p.source, p.key, p.sequence, p.topic, p.partition, p.cause, p.retry_at, p.type from parked p`

	// Records that are no events of their key's have no number and no order, so one
	// of them holds up no other that an operator has let go. They may have come from
	// several partitions.
	letGo = `select f.topic, f.partition from parked f
    where f.source = h.source and f.key = h.key and f.sequence = 0 and f.cause = 'follows' order by f.record_offset limit 1`

	headSQL = `select w.sequence, w.record_offset, w.type, w.headers, w.payload, w.reason, w.cause, w.attempts from (
  (select 1 as turn, p.* from parked p where source = $1 and key = $2 and topic = $3 and partition = $4 and sequence = 0 and cause = 'follows'
    order by sequence, record_offset limit 1)
  union all
  (select 2, p.* from parked p where source = $1 and key = $2 and topic = $3 and partition = $4 order by sequence, record_offset limit 1)) w
order by w.turn limit 1`

	refusedSQL = `select p.topic, p.partition, p.key, min(p.record_offset) from parked p
join unnest($1::text[], $2::text[]) as t (topic, key) on p.source = t.topic and p.key = t.key and p.sequence = 0
group by p.topic, p.partition, p.key`

	knownSQL = `with moved as (
  update parked set cause = 'follows', attempts = 0, reason = 'its version is known now'
  where topic = $1 and partition = $2 and record_offset = $3 and cause = 'unknown_version' returning source, key, sequence)
insert into parked_log (action, source, key, sequence, upto_seq, records, who, why)
select 'redrive', m.source, m.key, m.sequence, m.sequence, 1, 'the kit', $4 from moved m`

	dropSQL = `delete from parked where topic = $1 and partition = $2 and record_offset = $3`

	holdSQL = `update parked set cause = $4, reason = $5, attempts = $6,
  retry_at = case when $4 = 'retry' then clock_timestamp() + make_interval(secs => $7) end
where topic = $1 and partition = $2 and record_offset = $3`

	countSQL = `select coalesce((select json_object_agg(k.cause, k.keys) from (
    select p.cause, count(distinct (p.source, p.key)) as keys from parked p where p.cause not in ('retry', 'follows') group by p.cause) k), '{}'),
  (select extract(epoch from min(p.retry_at) - clock_timestamp())::float8 from parked p where p.cause = 'retry')`
)

// Runnable finds the ids of the partitions whose lowest parked record may be
// applied or judged now: the one before it is applied, or it has just become the
// lowest, and no operator is asked for. A record whose version was unknown is among
// them when its kind is one of the kinds. Only
// ID, Topic and Partition of what it returns are set. At most limit are
// returned.
func Runnable(ctx context.Context, tx *sqlx.Tx, offsets []Offset, kinds []string, limit int) ([]Parked, error) {
	topics, partitions, _ := columns(offsets)
	rows, err := tx.QueryContext(ctx, runnableSQL, postgres.Array(topics), postgres.Array(partitions), limit, postgres.Array(kinds))
	if err != nil {
		return nil, fmt.Errorf("inbox: parked keys: %w", err)
	}
	defer rows.Close()
	var waiting []Parked
	for rows.Next() {
		var w Parked
		if err := rows.Scan(&w.Source, &w.Key, &w.Topic, &w.Partition); err != nil {
			return nil, fmt.Errorf("inbox: parked keys: %w", err)
		}
		waiting = append(waiting, w)
	}
	return waiting, rows.Err()
}

// Head returns the lowest parked record of an id from one partition, and false
// when there is none. Of records without a number it returns one that was let go
// before others. The caller holds the offset of the partition.
func Head(ctx context.Context, tx *sqlx.Tx, id ID, topic string, partition int32) (Parked, bool, error) {
	p := Parked{ID: id, Topic: topic, Partition: partition}
	err := tx.QueryRowContext(ctx, headSQL, id.Source, id.Key, topic, partition).
		Scan(&p.Sequence, &p.Offset, &p.Kind, &p.Headers, &p.Payload, &p.Reason, &p.Cause, &p.Attempts)
	if errors.Is(err, sql.ErrNoRows) {
		return Parked{}, false, nil
	}
	if err != nil {
		return Parked{}, false, fmt.Errorf("inbox: parked record of %q: %w", id.Key, err)
	}
	return p, true, nil
}

// At is where the records of a key lie that have no number, by the key of the
// record in the log.
type At struct {
	Topic     string
	Partition int32
	Key       string
}

// Refused returns the lowest offset at which a record that is no event, or does not
// belong where it lies, is parked, for those of the keys in the topics beside them
// that have one.
func Refused(ctx context.Context, tx *sqlx.Tx, topics, keys []string) (map[At]int64, error) {
	rows, err := tx.QueryContext(ctx, refusedSQL, postgres.Array(topics), postgres.Array(keys))
	if err != nil {
		return nil, fmt.Errorf("inbox: refused records of %d keys: %w", len(keys), err)
	}
	defer rows.Close()
	refused := map[At]int64{}
	for rows.Next() {
		var at At
		var offset int64
		if err := rows.Scan(&at.Topic, &at.Partition, &at.Key, &offset); err != nil {
			return nil, fmt.Errorf("inbox: refused records of %d keys: %w", len(keys), err)
		}
		refused[at] = offset
	}
	return refused, rows.Err()
}

// Know lets a parked record go whose version was not known, and writes into the log
// that the kit did and why, as [Redrive] does for an operator. The caller holds the
// offset of its partition.
func Know(ctx context.Context, tx *sqlx.Tx, p Parked, why string) error {
	if _, err := tx.ExecContext(ctx, knownSQL, p.Topic, p.Partition, p.Offset, why); err != nil {
		return fmt.Errorf("inbox: let parked record of %q go: %w", p.Key, err)
	}
	return nil
}

// Drop takes a record out of the parked ones. The caller holds the offset of
// its partition.
func Drop(ctx context.Context, tx *sqlx.Tx, p Parked) error {
	if _, err := tx.ExecContext(ctx, dropSQL, p.Topic, p.Partition, p.Offset); err != nil {
		return fmt.Errorf("inbox: drop parked record of %q: %w", p.Key, err)
	}
	return nil
}

// Hold stores why a parked record goes on waiting: its Cause, Reason, Attempts
// and RetryIn. The caller holds the offset of its partition.
func Hold(ctx context.Context, tx *sqlx.Tx, p Parked) error {
	_, err := tx.ExecContext(ctx, holdSQL, p.Topic, p.Partition, p.Offset, string(p.Cause), text(p.Reason), p.Attempts, p.RetryIn.Seconds())
	if err != nil {
		return fmt.Errorf("inbox: hold parked record of %q: %w", p.Key, err)
	}
	return nil
}

// Count returns how many keys wait for an operator or a missing record, by cause, and how
// long it is until the next attempt at a record whose handler failed; idle when
// there is none.
func Count(ctx context.Context, tx *sqlx.Tx, idle time.Duration) (keys map[Cause]int, next time.Duration, err error) {
	var (
		causes  []byte
		seconds sql.Null[float64]
	)
	if err = tx.QueryRowContext(ctx, countSQL).Scan(&causes, &seconds); err == nil {
		err = json.Unmarshal(causes, &keys)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("inbox: count parked keys: %w", err)
	}
	if !seconds.Valid {
		return keys, idle, nil
	}
	return keys, min(idle, time.Duration(seconds.V*float64(time.Second))), nil
}
