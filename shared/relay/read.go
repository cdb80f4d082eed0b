package relay

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/postgres"
	"pavane/shared/tracing"
)

// rowSet is what one look at the outbox found: rows in the order of their ids,
// encoded into a batch per partition.
type rowSet struct {
	prev, target position
	after, upto  int64
	rows         int
	full         bool // cut short by a limit: the set has more rows
	headChunk    int64
	incarnation  string // of the server, when the statement ran; empty: it has none yet
	stamp        int64  // timestamp of the records, milliseconds since 1970
	came         time.Time
	batches      []*broker.Batch

	// Of a planned chunk: what the journal says of it, as the same statement
	// sees both; nil when the journal does not hold it any more.
	counts   map[string]int
	progress map[string]progress
	// only names the one partition whose rows are kept as records, and not as
	// batches; empty for none.
	only string
	part part
}

// part is a partition's rows of a chunk, one by one.
type part struct {
	topic     string
	partition int32
	rows      []record
}

type record struct {
	id                    int64
	key, headers, payload []byte
}

// freshFor is how long rows may have been read before they are planned. The time
// of their look becomes that of their records, by which Kafka forgets a producer
// (KIP-360): after an outage of Kafka it would be long ago.
const freshFor = time.Second

// old tells whether the rows were read too long ago to be planned.
func (s *rowSet) old() bool { return time.Since(s.came) > freshFor }

// moved tells whether the journal has a newer head than the one known.
func (s *rowSet) moved(head *chunk) bool { return s.headChunk != head.number }

// The rows between two positions come from two places: those of transactions
// later than the position's xid by id, from the position's id on; and those of
// the few transactions that were open or not yet begun when the snapshot was
// taken, one by one by xid. Each is a bounded walk along an index, so the cost
// follows the rows that are new, whatever the table holds.
const (
	fields  = `o.id, o.topic, o.key, o.headers, o.payload, o.event_id, o.type, o.sequence, o.created_at`
	columns = `select ` + fields + ` from outbox o`
	// shown are the columns as they are read: a time as eight bytes, microseconds
	// since 2000, which costs less than its text.
	shown   = `select r.id, r.topic, r.key, r.headers, r.payload, r.event_id, r.type, r.sequence, timestamptz_send(r.created_at)`
	nothing = `''::text, ''::bytea, ''::bytea, ''::text, ''::text, 0::bigint, ''::bytea`
	inOrder = ` order by o.id limit $5`
	now     = `(extract(epoch from clock_timestamp()) * 1000)::bigint`

	// notParked leaves out parked keys, and of released ones the rows that were
	// copied. While there are none, that is asked once for all rows; else by index
	// or by hash, as Postgres likes. Not by "not in": a list that is too long for
	// its hash is read anew for each row.
	notParked = ` and (not exists (select from relay_parked)
    or not exists (select from relay_parked p where p.key = o.key))` + notReplaced
	notReplaced = ` and (not exists (select from relay_released)
    or not exists (select from relay_released r where r.key = o.key) or not outbox_replaced(o.key, o.topic, o.id, o.xid))`

	// undecided are the transactions up to the position's xid that its snapshot
	// does not show.
	undecided = `(select pg_snapshot_xip($1::pg_snapshot) as xid
    union all select i::text::xid8 from generate_series(pg_snapshot_xmax($1::pg_snapshot)::text::bigint, $3::xid8::text::bigint) i) x`

	// ofNow describes the statement that looks for new rows.
	ofNow = `'head', (select coalesce(max(j.chunk), 0) from relay_journal j), 'incarnation', (select i.id from relay_incarnation i), 'stamp', ` + now

	// nextSQL reads a new set: all that this statement sees and prev did not.
	// Its first row describes the statement itself. The sequence is read here,
	// before the plan draws its xid, and by the function, which locks its page: a
	// select can meet the moment in which the page bears a number that is up to 31
	// too high, the one for the WAL.
	nextSQL = `select 0::bigint, json_build_object('snapshot', pg_current_snapshot()::text,
    'last_id', coalesce(pg_sequence_last_value('outbox_id_seq'), 0), ` + ofNow + `)::text, ` + nothing + `
union all
` + shown + ` from (
  (` + columns + ` where o.id > greatest($2::bigint, $4::bigint) and o.xid > $3::xid8` + notParked + inOrder + `)
  union all
  select ` + fields + ` from ` + undecided + ` cross join lateral (
    ` + columns + ` where o.xid = x.xid and o.id > $4::bigint` + notParked + inOrder + `) o
  order by 1 limit $5) r`

	// setSQL reads on in a set that is fixed by its target, $6.
	inTarget = ` and pg_visible_in_snapshot(o.xid, $6::pg_snapshot)`
	setSQL   = `select 0::bigint, json_build_object(` + ofNow + `)::text, ` + nothing + `
union all
` + shown + ` from (
  (` + columns + ` where o.id > greatest($2::bigint, $4::bigint) and o.xid > $3::xid8` + inTarget + notParked + inOrder + `)
  union all
  select ` + fields + ` from ` + undecided + ` cross join lateral (
    ` + columns + ` where o.xid = x.xid and o.id > $4::bigint` + inTarget + notParked + inOrder + `) o
  order by 1 limit $5) r`

	// chunkSQL reads chunk $8 again, up to its last row $7. It leaves out what
	// was left out when the chunk was planned, and what was parked out of it
	// since; counts and progress are of the same moment.
	inChunk = inTarget + ` and o.id <= $7::bigint and not exists (select from relay_parked p
      where p.key = o.key and (p.chunk < $8::bigint or p.topic = o.topic and p.since_id <= o.id))` + notReplaced
	chunkSQL = `select 0::bigint, json_build_object('counts', j.counts, 'progress', j.progress)::text, ` + nothing + `
  from (values ($8::bigint)) n (chunk) left join relay_journal j on j.chunk = n.chunk
union all
` + shown + ` from (
  (` + columns + ` where o.id > greatest($2::bigint, $4::bigint) and o.xid > $3::xid8` + inChunk + inOrder + `)
  union all
  select ` + fields + ` from ` + undecided + ` cross join lateral (
    ` + columns + ` where o.xid = x.xid and o.id > $4::bigint` + inChunk + inOrder + `) o
  order by 1 limit $5) r`
)

// reader turns rows into batches and keeps the batches' memory between chunks.
type reader struct {
	db         *postgres.DB
	partitions int
	maxBytes   int
	free       []*broker.Batch
	inUse      []*broker.Batch

	tracer *tracing.Tracer
	traces map[*broker.Batch]*tracing.Sending // the recorded events of each batch; nil without a tracer
}

func newReader(cfg Config) *reader {
	return &reader{db: cfg.DB, partitions: cfg.Partitions, maxBytes: cfg.ChunkBytes, tracer: cfg.Tracer}
}

// after reads what comes after the head: the rest of its set, else a new set.
func (r *reader) after(ctx context.Context, head *chunk, limit int) (*rowSet, error) {
	if !head.last {
		s := &rowSet{prev: head.prev, target: head.target, after: head.upto}
		if err := r.read(ctx, s, setSQL, limit, s.target.snapshot); err != nil || s.rows > 0 {
			return s, err
		}
	}
	s := &rowSet{prev: head.target}
	return s, r.read(ctx, s, nextSQL, limit)
}

// sight is what decides which rows a statement shows: its snapshot, and the
// incarnation of the server, since a crash gives numbers of transactions out anew.
type sight struct{ snapshot, incarnation string }

const sightSQL = `select pg_current_snapshot()::text, coalesce((select i.id::text from relay_incarnation i), '') where $1`

// sight is that of the look. Only one for new rows knows it.
func (s *rowSet) sight() sight { return sight{s.target.snapshot, s.incarnation} }

// sight is that of now. It costs a third of a look that finds nothing.
func (r *reader) sight(ctx context.Context) (s sight, err error) {
	if err := r.db.SQL().QueryRowContext(ctx, sightSQL, true).Scan(&s.snapshot, &s.incarnation); err != nil {
		return s, fmt.Errorf("outbox: look: %w", err)
	}
	return s, nil
}

// chunk reads the rows of a planned chunk again, the same ones in the same
// order, without those that were parked out of it since.
func (r *reader) chunk(ctx context.Context, c *chunk) (*rowSet, error) {
	return r.planned(ctx, c, "")
}

// records reads a partition's rows of a planned chunk again, one by one. The
// batches of the last read stay as they are.
func (r *reader) records(ctx context.Context, c *chunk, tp string) (*rowSet, error) {
	return r.planned(ctx, c, tp)
}

func (r *reader) planned(ctx context.Context, c *chunk, only string) (*rowSet, error) {
	s := &rowSet{prev: c.prev, target: c.target, after: c.after, stamp: c.stamp, only: only}
	return s, r.read(ctx, s, chunkSQL, c.rows, c.target.snapshot, c.upto, c.number)
}

// read fills s with at most limit rows. New rows end also where a partition's
// batch is full; a chunk read again is as long as it was planned.
func (r *reader) read(ctx context.Context, s *rowSet, query string, limit int, more ...any) error {
	if s.only == "" {
		r.free, r.inUse = append(r.free, r.inUse...), nil
		clear(r.traces)
	}
	args := append([]any{s.prev.snapshot, s.prev.id, s.prev.xid, s.after, limit}, more...)
	rows, err := r.db.SQL().QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("outbox: read: %w", err)
	}
	defer rows.Close()
	planned := query == chunkSQL
	fill := filler{reader: r, found: s, batches: make(map[string][]*broker.Batch, 1), planned: planned}
	for rows.Next() && !fill.done {
		if err := fill.scan(rows); err != nil {
			return fmt.Errorf("outbox: read: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("outbox: read: %w", err)
	}
	if !planned && s.rows == limit {
		s.full = true
	}
	s.came = time.Now()
	return nil
}

// filler sorts the rows of one query into batches.
type filler struct {
	*reader
	found   *rowSet
	batches map[string][]*broker.Batch // per topic, by partition
	planned bool                       // a chunk read again
	began   bool
	done    bool

	id, sequence                                    int64
	topic, key, extra, payload, eventID, kind, made sql.RawBytes
	headers                                         []byte // the row's as they go to Kafka
}

func (f *filler) scan(rows *sql.Rows) error {
	if err := rows.Scan(&f.id, &f.topic, &f.key, &f.extra, &f.payload, &f.eventID, &f.kind, &f.sequence, &f.made); err != nil {
		return err
	}
	if !f.began {
		f.began = true
		return f.describe()
	}
	if err := f.complete(); err != nil {
		return fmt.Errorf("row %d: %w", f.id, err)
	}
	if f.id <= f.found.upto {
		return fmt.Errorf("row %d after row %d; rows must come in the order of their ids", f.id, f.found.upto)
	}
	if f.found.only != "" {
		f.keep()
		return nil
	}
	b := f.batch()
	if !f.planned && b.Len() > 0 && b.Size()+len(f.headers)+len(f.payload)+len(f.key)+rowOverhead > f.maxBytes {
		f.found.full, f.done = true, true
		return nil
	}
	b.Add(f.found.stamp, f.key, f.payload, f.headers)
	if f.tracer != nil {
		f.traces[b].Add(event.TraceParent(f.extra))
	}
	f.found.upto = f.id
	f.found.rows++
	return nil
}

// complete makes the headers of the row's record.
func (f *filler) complete() (err error) {
	if len(f.made) != 8 {
		return fmt.Errorf("created_at has %d bytes, want 8", len(f.made))
	}
	stored := event.Stored{
		ID: f.eventID, Kind: f.kind, Key: f.key, Sequence: f.sequence,
		Time: time.UnixMicro(int64(binary.BigEndian.Uint64(f.made)) + year2000), Extra: f.extra, // #nosec G115 -- the bits of a signed number
	}
	f.headers, err = stored.AppendHeaders(f.headers[:0])
	return err
}

// year2000 is where Postgres counts microseconds from.
const year2000 = 946_684_800_000_000

// keep adds the row to the records, when it is of their partition.
func (f *filler) keep() {
	f.found.upto = f.id
	f.found.rows++
	partition := broker.Partition(f.key, f.partitions)
	if place(string(f.topic), partition) != f.found.only {
		return
	}
	p := &f.found.part
	p.topic, p.partition = string(f.topic), partition
	p.rows = append(p.rows, record{id: f.id, key: bytes.Clone(f.key), headers: bytes.Clone(f.headers), payload: bytes.Clone(f.payload)})
}

// rowOverhead is more than a record's own fields take in a batch.
const rowOverhead = 32

// describe reads the first row, which tells of the statement.
func (f *filler) describe() error {
	var d struct {
		Snapshot string `json:"snapshot"`
		LastID   int64  `json:"last_id"`
		Head     int64  `json:"head"`
		Stamp    int64  `json:"stamp"`

		Incarnation string `json:"incarnation"`

		Counts   map[string]int      `json:"counts"`
		Progress map[string]progress `json:"progress"`
	}
	if f.id != 0 {
		return fmt.Errorf("row %d came before the description", f.id)
	}
	if err := json.Unmarshal(f.topic, &d); err != nil {
		return fmt.Errorf("description: %w", err)
	}
	f.found.headChunk, f.found.incarnation, f.found.counts, f.found.progress = d.Head, d.Incarnation, d.Counts, d.Progress
	if f.found.stamp == 0 { // a chunk read again keeps its stamp
		f.found.stamp = d.Stamp
	}
	if d.Snapshot != "" {
		f.found.target = position{snapshot: d.Snapshot, id: d.LastID}
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
		f.follow(b, string(f.topic), p)
		f.found.batches = append(f.found.batches, b)
	}
	return byPartition[p]
}

// follow begins to gather the traces of a batch, where there are any.
func (r *reader) follow(b *broker.Batch, topic string, partition int32) {
	if r.tracer == nil {
		return
	}
	if r.traces == nil {
		r.traces = map[*broker.Batch]*tracing.Sending{}
	}
	r.traces[b] = r.tracer.NewSending(topic, partition)
}

// sending starts the spans in which batches of the last read go to Kafka, and
// returns what ends them.
func (r *reader) sending(ctx context.Context, batches []*broker.Batch) (end func(error)) {
	var all []*tracing.Sending
	if r.tracer != nil {
		for _, b := range batches {
			all = append(all, r.traces[b])
		}
	}
	return r.tracer.Send(ctx, all...)
}

func (r *reader) take() *broker.Batch {
	b := new(broker.Batch)
	if n := len(r.free); n > 0 {
		b, r.free = r.free[n-1], r.free[:n-1]
	}
	r.inUse = append(r.inUse, b)
	return b
}
