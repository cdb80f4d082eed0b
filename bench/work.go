package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"pavane/shared/event"
	"pavane/shared/postgres"
)

const (
	keys = 5000
	kind = "bench.placed.v1"
	// together is how many rows a transaction of the backlog holds.
	together = 20
)

// item is a row of work: an event like those of a shop, 335 bytes of JSON on
// average and the headers of a CloudEvent.
type item struct {
	key      string
	sequence int64
	id       string
	payload  []byte
}

// newItem makes row n, the same one each time. Every keys rows each key comes
// once, in another order than by name.
func newItem(n int) item {
	random := rand.New(rand.NewPCG(uint64(n), 7))
	it := item{key: keyOf(n), sequence: int64(n/keys) + 1, id: fixedID(random)}
	it.payload = append(it.payload, fmt.Sprintf(`{"order_id": %q, "customer": "customer-%d", "currency": "EUR", "total": %d, "lines": [`,
		it.key, random.IntN(1000), random.IntN(100000))...)
	for i := range 1 + n%4 {
		if i > 0 {
			it.payload = append(it.payload, ", "...)
		}
		it.payload = append(it.payload, fmt.Sprintf(`{"sku": "article-%05d", "quantity": %d, "price": %d}`, random.IntN(100000), 1+random.IntN(9), random.IntN(9999))...)
	}
	it.payload = append(it.payload, fmt.Sprintf(`], "note": "%016x%016x%016x%016x%016x"}`,
		random.Uint64(), random.Uint64(), random.Uint64(), random.Uint64(), random.Uint64())...)
	return it
}

func keyOf(n int) string { return fmt.Sprintf("order-%05d", n%keys*7919%keys) }

func fixedID(random *rand.Rand) string {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(random.Uint32())
	}
	return id.String()
}

const sequenceHeader = "ce_sequence"

// envelope is the item as it travels. Its time is the same for all; in an
// outbox it is that of the row.
func (it item) envelope() event.Envelope {
	return event.Envelope{
		ID: it.id, Source: source, Kind: kind, Key: it.key, Time: time.Unix(1_800_000_000, 123_456_000), Sequence: it.sequence,
		CorrelationID: it.key,
	}
}

// tablesSQL makes what the trials need beside the kit's tables. The textbook's
// outbox is as tutorials have it: jsonb, a mark when a row was published, and an
// index on what waits. The procedures fill an outbox from work in transactions
// of some rows, as it was written by many.
const tablesSQL = `
create table work (
  n bigint not null primary key, key text not null, sequence bigint not null, event_id text not null,
  headers bytea not null, attributes jsonb not null, payload bytea not null);
create table orders (
  id bigint generated always as identity primary key, customer text not null, total bigint not null,
  created_at timestamptz not null default now());
create table textbook_outbox (
  id bigint generated always as identity primary key, event_id uuid not null, topic text not null, key text not null,
  headers jsonb not null, payload jsonb not null, created_at timestamptz not null default now(), published_at timestamptz);
create index textbook_outbox_waiting on textbook_outbox (id) where published_at is null;
create procedure fill_outbox(to_topic text, upto bigint, step bigint) language plpgsql as $$
declare i bigint;
begin
  for i in select generate_series(0, upto - 1, step) loop
    insert into outbox (topic, key, sequence, event_id, type, headers, payload)
    select to_topic, w.key, w.sequence, w.event_id, '` + kind + `', w.headers, w.payload
    from work w where w.n >= i and w.n < least(i + step, upto) order by w.n;
    commit;
  end loop;
end $$;
create procedure fill_textbook_outbox(to_topic text, upto bigint, step bigint) language plpgsql as $$
declare i bigint;
begin
  for i in select generate_series(0, upto - 1, step) loop
    insert into textbook_outbox (event_id, topic, key, headers, payload)
    select w.event_id::uuid, to_topic, w.key,
      w.attributes, convert_from(w.payload, 'UTF8')::jsonb
    from work w where w.n >= i and w.n < least(i + step, upto) order by w.n;
    commit;
  end loop;
end $$;`

// storeWork writes the rows of work, many at once.
func storeWork(ctx context.Context, db *postgres.DB, rows int) error {
	const block = 5000
	for from := 0; from < rows; from += block {
		var (
			numbers, sequences []int64
			keys, ids, objects []string
			headers, payloads  [][]byte
		)
		for n := from; n < min(from+block, rows); n++ {
			it := newItem(n)
			numbers, sequences = append(numbers, int64(n)), append(sequences, it.sequence)
			keys, ids = append(keys, it.key), append(ids, it.id)
			headers, payloads = append(headers, event.AppendHeaders(nil, it.envelope().Extra())), append(payloads, it.payload)
			object, err := headerObject(it.envelope().Headers())
			if err != nil {
				return err
			}
			objects = append(objects, object)
		}
		err := execute(ctx, db, `insert into work (n, key, sequence, event_id, headers, attributes, payload)
select u.n, u.key, u.sequence, u.event_id, u.headers, u.attributes, u.payload
from unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::bytea[], $6::jsonb[], $7::bytea[])
  as u (n, key, sequence, event_id, headers, attributes, payload)`,
			postgres.Array(numbers), postgres.Array(keys), postgres.Array(sequences), postgres.Array(ids), postgres.Array(headers),
			postgres.Array(objects), postgres.Array(payloads))
		if err != nil {
			return fmt.Errorf("rows of work: %w", err)
		}
	}
	return nil
}

// fill writes the first n rows of work into the trial's outbox.
func (t *trial) fill(ctx context.Context, n int) error {
	conn, err := t.db.SQL().Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it goes back into the pool
	if _, err := conn.ExecContext(ctx, `set synchronous_commit = off`); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "call fill_"+t.way.table+"($1, $2, $3)", t.name, n, together); err != nil {
		return fmt.Errorf("fill %s: %w", t.way.table, err)
	}
	if _, err := conn.ExecContext(ctx, `reset synchronous_commit`); err != nil {
		return err
	}
	return t.settle(ctx, t.way.table)
}
