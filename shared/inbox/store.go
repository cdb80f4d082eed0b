package inbox

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jmoiron/sqlx"

	"pavane/shared/fault"
	"pavane/shared/postgres"
)

const (
	ensureSQL = `insert into inbox_offset (topic, partition, next_offset, first_offset)
select t.topic, t.partition, t.next_offset, t.next_offset from unnest($1::text[], $2::integer[], $3::bigint[]) as t (topic, partition, next_offset)
order by t.topic, t.partition on conflict do nothing returning topic, partition, next_offset, first_offset`

	readSQL = `select o.topic, o.partition, o.next_offset, o.first_offset
from inbox_offset o join unnest($1::text[], $2::integer[]) as t (topic, partition) using (topic, partition)
order by o.topic, o.partition`

	lockSQL = readSQL + ` for update of o`

	// The rows are locked after all of the join is there, so after the lock on
	// the service; their offsets are those of that later moment.
	lockAloneSQL = `select o.topic, o.partition, o.next_offset, o.first_offset
from inbox_offset o join unnest($1::text[], $2::integer[]) as t (topic, partition) using (topic, partition)
cross join (select pg_advisory_xact_lock(hashtextextended('pavane consumer ' || current_schema() || ' ' || $3, 0))) alone
order by o.topic, o.partition for update of o`

	// One index lookup per id, in the order given, whatever the planner knows
	// of the table's size when the statement is prepared.
	loadSQL = `select t.source, t.key, coalesce(i.last_seq, 0), coalesce(p.head, 0)
from unnest($1::text[], $2::text[]) with ordinality as t (source, key, place)
left join lateral (select b.last_seq from inbox b where b.source = t.source and b.key = t.key for update) i on true
left join lateral (
  select w.sequence as head from parked w where w.source = t.source and w.key = t.key order by w.sequence limit 1) p on true
order by t.place`

	saveSQL = `with moved as (
  update inbox_offset o set next_offset = t.next_offset
  from unnest($1::text[], $2::integer[], $3::bigint[]) as t (topic, partition, next_offset)
  where o.topic = t.topic and o.partition = t.partition and o.next_offset < t.next_offset)
insert into inbox as i (source, key, last_seq)
select t.source, t.key, t.last_seq from unnest($4::text[], $5::text[], $6::bigint[]) as t (source, key, last_seq)
order by t.source, t.key
on conflict (source, key) do update set last_seq = excluded.last_seq, applied_at = clock_timestamp()
where i.last_seq < excluded.last_seq`

	parkSQL = `insert into parked
  (source, key, sequence, topic, partition, record_offset, type, headers, payload, reason, cause, attempts, retry_at)
select t.source, t.key, t.sequence, t.topic, t.partition, t.record_offset, t.type, t.headers, t.payload, t.reason, t.cause,
  t.attempts, case when t.cause = 'retry' then clock_timestamp() + make_interval(secs => t.retry_in) end
from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::integer[], $6::bigint[], $7::text[], $8::bytea[], $9::bytea[],
  $10::text[], $11::text[], $12::integer[], $13::float8[]) as t
  (source, key, sequence, topic, partition, record_offset, type, headers, payload, reason, cause, attempts, retry_in)
on conflict (topic, partition, record_offset) do nothing`
)

// Begin makes the missing rows of partitions, reading on at Next, which is First
// from then on. It returns the offsets that count, ordered by topic and partition,
// and those of them that it made.
func Begin(ctx context.Context, tx *sqlx.Tx, offsets []Offset) (stored, begun []Offset, err error) {
	topics, partitions, nexts := columns(offsets)
	rows, err := tx.QueryContext(ctx, ensureSQL, postgres.Array(topics), postgres.Array(partitions), postgres.Array(nexts))
	if begun, err = scanOffsets(rows, err); err != nil {
		return nil, nil, err
	}
	stored, err = Stored(ctx, tx, offsets)
	return stored, begun, err
}

// Stored returns the offsets of the partitions, ordered by topic and partition. Next
// is not looked at.
func Stored(ctx context.Context, tx *sqlx.Tx, offsets []Offset) ([]Offset, error) {
	topics, partitions, _ := columns(offsets)
	rows, err := tx.QueryContext(ctx, readSQL, postgres.Array(topics), postgres.Array(partitions))
	return scanOffsets(rows, err)
}

// Lock locks the rows of the partitions and returns their offsets, ordered by
// topic and partition. Next is not looked at.
func Lock(ctx context.Context, tx *sqlx.Tx, offsets []Offset) ([]Offset, error) {
	topics, partitions, _ := columns(offsets)
	rows, err := tx.QueryContext(ctx, lockSQL, postgres.Array(topics), postgres.Array(partitions))
	return scanOffsets(rows, err)
}

// LockAlone is [Lock] for one transaction of a service at a time, over all of
// its partitions and instances.
func LockAlone(ctx context.Context, tx *sqlx.Tx, service string, offsets []Offset) ([]Offset, error) {
	topics, partitions, _ := columns(offsets)
	rows, err := tx.QueryContext(ctx, lockAloneSQL, postgres.Array(topics), postgres.Array(partitions), service)
	return scanOffsets(rows, err)
}

func scanOffsets(rows *sql.Rows, err error) ([]Offset, error) {
	if err != nil {
		return nil, fmt.Errorf("inbox: offsets: %w", err)
	}
	defer rows.Close()
	var offsets []Offset
	for rows.Next() {
		var o Offset
		if err := rows.Scan(&o.Topic, &o.Partition, &o.Next, &o.First); err != nil {
			return nil, fmt.Errorf("inbox: offsets: %w", err)
		}
		offsets = append(offsets, o)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("inbox: offsets: %w", err)
	}
	return offsets, nil
}

// Load returns the state of each id, in the same order, and locks what there
// is. The caller gives each id once and sorts them, so that two transactions
// lock in one order.
func Load(ctx context.Context, tx *sqlx.Tx, ids []ID) ([]State, error) {
	sources, keys := make([]string, len(ids)), make([]string, len(ids))
	for i, id := range ids {
		sources[i], keys[i] = id.Source, id.Key
	}
	rows, err := tx.QueryContext(ctx, loadSQL, postgres.Array(sources), postgres.Array(keys))
	if err != nil {
		return nil, fmt.Errorf("inbox: load %d keys: %w", len(ids), err)
	}
	defer rows.Close()
	states := make([]State, 0, len(ids))
	for rows.Next() {
		var (
			st State
			id ID
		)
		if err := rows.Scan(&id.Source, &id.Key, &st.Last, &st.Head); err != nil {
			return nil, fmt.Errorf("inbox: load %d keys: %w", len(ids), err)
		}
		states = append(states, st)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("inbox: load %d keys: %w", len(ids), err)
	}
	if len(states) != len(ids) {
		return nil, fmt.Errorf("inbox: %d keys asked for, %d answered", len(ids), len(states))
	}
	return states, nil
}

// Save moves offsets and the last applied numbers of ids on, never back. It
// fails with [fault.Unavailable] when another transaction has applied one of
// these numbers: Load locks no key of which nothing was applied, so two readers
// of a key's first event, on two topics, meet only here. Run again, the
// transaction sees what the other one did.
func Save(ctx context.Context, tx *sqlx.Tx, offsets []Offset, last map[ID]int64) error {
	topics, partitions, nexts := columns(offsets)
	sources, keys, numbers := make([]string, 0, len(last)), make([]string, 0, len(last)), make([]int64, 0, len(last))
	for id, number := range last {
		sources, keys, numbers = append(sources, id.Source), append(keys, id.Key), append(numbers, number)
	}
	res, err := tx.ExecContext(ctx, saveSQL, postgres.Array(topics), postgres.Array(partitions), postgres.Array(nexts),
		postgres.Array(sources), postgres.Array(keys), postgres.Array(numbers))
	var moved int64
	if err == nil {
		moved, err = res.RowsAffected()
	}
	switch {
	case err != nil:
		return fmt.Errorf("inbox: save %d offsets, %d keys: %w", len(offsets), len(last), err)
	case moved < int64(len(last)):
		return fault.Unavailable("inbox: %d of %d keys were applied by another transaction meanwhile", int64(len(last))-moved, len(last))
	}
	return nil
}

// Park adds records to the parked ones. One that is there already stays as it
// is. Text that PostgreSQL cannot hold is made fit; the record's own bytes
// stay.
func Park(ctx context.Context, tx *sqlx.Tx, records []Parked) error {
	if len(records) == 0 {
		return nil
	}
	var (
		sources, keys, topics, kinds, reasons, causes []string
		sequences, offsets                            []int64
		partitions, attempts                          []int32
		headers, payloads                             [][]byte
		delays                                        []float64
	)
	for _, r := range records {
		id := fit(r.ID)
		sources, keys, sequences = append(sources, id.Source), append(keys, id.Key), append(sequences, r.Sequence)
		topics, partitions, offsets = append(topics, r.Topic), append(partitions, r.Partition), append(offsets, r.Offset)
		kinds, reasons, causes = append(kinds, text(r.Kind)), append(reasons, text(r.Reason)), append(causes, string(r.Cause))
		headers, payloads = append(headers, notNil(r.Headers)), append(payloads, notNil(r.Payload))
		attempts, delays = append(attempts, int32(r.Attempts)), append(delays, r.RetryIn.Seconds()) // #nosec G115 -- tries are counted, and minutes lie between them
	}
	_, err := tx.ExecContext(ctx, parkSQL, postgres.Array(sources), postgres.Array(keys), postgres.Array(sequences),
		postgres.Array(topics), postgres.Array(partitions), postgres.Array(offsets), postgres.Array(kinds), postgres.Array(headers),
		postgres.Array(payloads), postgres.Array(reasons), postgres.Array(causes), postgres.Array(attempts), postgres.Array(delays))
	if err != nil {
		return fmt.Errorf("inbox: park %d records: %w", len(records), err)
	}
	return nil
}

// fit makes an id that is not Valid one that is.
func fit(id ID) ID {
	if id.Valid() {
		return id
	}
	return ID{Source: text(cut(id.Source)), Key: text(cut(id.Key))}
}

func cut(s string) string { return s[:min(len(s), maxID/8)] }

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func columns(offsets []Offset) (topics []string, partitions []int32, nexts []int64) {
	topics, partitions, nexts = make([]string, len(offsets)), make([]int32, len(offsets)), make([]int64, len(offsets))
	for i, o := range offsets {
		topics[i], partitions[i], nexts[i] = o.Topic, o.Partition, o.Next
	}
	return topics, partitions, nexts
}
