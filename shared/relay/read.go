package relay

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"pavane/shared/broker"
)

// rowSet is what one look at the outbox found: rows in the order of their ids,
// encoded into a batch per partition.
type rowSet struct {
	prev, target position
	after, upto  int64
	rows         int
	full         bool // cut short by a limit: the set has more rows
	headChunk    int64
	batches      []*broker.Batch
}

// moved tells whether the journal has a newer head than the one known.
func (s *rowSet) moved(head *chunk) bool { return s.headChunk != head.number }

// The rows between two positions come from two places: those of transactions
// later than the position's xid by id, from the position's id on; and those of
// the few transactions that were open or not yet begun when the snapshot was
// taken, by xid. Both are read from an index, so the cost follows the new rows.
const (
	columns = `select o.id, o.topic, o.key, o.headers, o.payload, (extract(epoch from o.created_at) * 1000)::bigint`
	later   = columns + `
  from outbox o where o.id > greatest($2::bigint, $4::bigint) and o.xid > $3::xid8`
	open = columns + `
  from outbox o where o.id > $4::bigint and (o.xid = any(array(select pg_snapshot_xip($1::pg_snapshot)))
    or (o.xid >= pg_snapshot_xmax($1::pg_snapshot) and o.xid <= $3::xid8))`
	inTarget = ` and pg_visible_in_snapshot(o.xid, $6::pg_snapshot)`
	inOrder  = ` order by o.id limit $5`

	// nextSQL reads a new set: all that this statement sees and prev did not.
	// Its first row describes the statement itself. The sequence is read here,
	// before the plan draws its xid.
	nextSQL = `select 0::bigint, json_build_object('snapshot', pg_current_snapshot()::text, 'last_id', s.last_value,
    'head', (select coalesce(max(j.chunk), 0) from relay_journal j))::text, ''::text, ''::bytea, ''::bytea, 0::bigint
  from outbox_id_seq s
union all
select r.id, r.topic, r.key, r.headers, r.payload, r.ms from (
  (` + later + inOrder + `) union all (` + open + inOrder + `)
  order by 1 limit $5) r (id, topic, key, headers, payload, ms)`

	// setSQL reads on in a set that is fixed by its target.
	setSQL = `select 0::bigint, json_build_object('head', (select coalesce(max(j.chunk), 0) from relay_journal j))::text,
    ''::text, ''::bytea, ''::bytea, 0::bigint
union all
select r.id, r.topic, r.key, r.headers, r.payload, r.ms from (
  (` + later + inTarget + inOrder + `) union all (` + open + inTarget + inOrder + `)
  order by 1 limit $5) r (id, topic, key, headers, payload, ms)`
)

// reader turns rows into batches and keeps the batches' memory between chunks.
type reader struct {
	db         *sql.DB
	partitions int
	maxBytes   int
	maxRows    int
	free       []*broker.Batch
	inUse      []*broker.Batch
}

func newReader(cfg Config) reader {
	return reader{db: cfg.DB.SQL(), partitions: cfg.Partitions, maxBytes: cfg.ChunkBytes, maxRows: cfg.ChunkRows}
}

// next reads what comes after the head: the rest of its set, else a new set.
func (r *reader) next(ctx context.Context, head *chunk, limit int) (*rowSet, error) {
	if !head.last {
		s := &rowSet{prev: head.prev, target: head.target, after: head.upto}
		if err := r.read(ctx, s, setSQL, limit, 0); err != nil || s.rows > 0 {
			return s, err
		}
	}
	s := &rowSet{prev: head.target}
	return s, r.read(ctx, s, nextSQL, limit, 0)
}

// chunk reads the rows of a planned chunk again, the same ones in the same
// order.
func (r *reader) chunk(ctx context.Context, c *chunk) (*rowSet, error) {
	s := &rowSet{prev: c.prev, target: c.target, after: c.after}
	return s, r.read(ctx, s, setSQL, c.rows, c.upto)
}

// read fills s with at most limit rows. A chunk read again ends with the row
// upto; a new one, upto being 0, also where a partition's batch is full.
func (r *reader) read(ctx context.Context, s *rowSet, query string, limit int, upto int64) error {
	r.free, r.inUse = append(r.free, r.inUse...), nil
	args := []any{s.prev.snapshot, s.prev.id, s.prev.xid, s.after, limit}
	if query == setSQL {
		args = append(args, s.target.snapshot)
	}
	rows, err := r.db.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("outbox: read: %w", err)
	}
	defer rows.Close()
	fill := filler{reader: r, set: s, batches: make(map[string][]*broker.Batch, 1), limit: limit, upto: upto}
	for rows.Next() && !fill.done {
		if err := fill.scan(rows); err != nil {
			return fmt.Errorf("outbox: read: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("outbox: read: %w", err)
	}
	if upto == 0 && s.rows == limit {
		s.full = true
	}
	return nil
}

// filler sorts the rows of one query into batches.
type filler struct {
	*reader
	set     *rowSet
	batches map[string][]*broker.Batch // per topic, by partition
	limit   int
	upto    int64
	began   bool
	done    bool

	id, ms                       int64
	topic, key, headers, payload sql.RawBytes
}

func (f *filler) scan(rows *sql.Rows) error {
	if err := rows.Scan(&f.id, &f.topic, &f.key, &f.headers, &f.payload, &f.ms); err != nil {
		return err
	}
	if !f.began {
		f.began = true
		return f.describe()
	}
	if f.id <= f.set.upto {
		return fmt.Errorf("row %d after row %d; rows must come in the order of their ids", f.id, f.set.upto)
	}
	b := f.batch()
	if f.upto == 0 && b.Len() > 0 && b.Size()+len(f.headers)+len(f.payload)+len(f.key)+rowOverhead > f.maxBytes {
		f.set.full, f.done = true, true
		return nil
	}
	b.Add(f.ms, f.key, f.payload, f.headers)
	f.set.upto = f.id
	f.set.rows++
	return nil
}

// rowOverhead is more than a record's own fields take in a batch.
const rowOverhead = 32

// describe reads the first row, which tells of the statement.
func (f *filler) describe() error {
	var d struct {
		Snapshot string `json:"snapshot"`
		LastID   int64  `json:"last_id"`
		Head     int64  `json:"head"`
	}
	if f.id != 0 {
		return fmt.Errorf("row %d came before the description", f.id)
	}
	if err := json.Unmarshal(f.topic, &d); err != nil {
		return fmt.Errorf("description: %w", err)
	}
	f.set.headChunk = d.Head
	if d.Snapshot != "" {
		f.set.target = position{snapshot: d.Snapshot, id: d.LastID}
	}
	return nil
}

// batch returns the batch of the row's partition.
func (f *filler) batch() *broker.Batch {
	byPartition, ok := f.batches[string(f.topic)]
	if !ok {
		byPartition = make([]*broker.Batch, f.partitions)
		f.batches[string(bytes.Clone(f.topic))] = byPartition
	}
	p := broker.Partition(f.key, f.partitions)
	if byPartition[p] == nil {
		b := f.take()
		b.Reset(string(f.topic), p)
		byPartition[p] = b
		f.set.batches = append(f.set.batches, b)
	}
	return byPartition[p]
}

func (r *reader) take() *broker.Batch {
	b := new(broker.Batch)
	if n := len(r.free); n > 0 {
		b, r.free = r.free[n-1], r.free[:n-1]
	}
	r.inUse = append(r.inUse, b)
	return b
}
