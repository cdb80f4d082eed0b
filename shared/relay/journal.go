package relay

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"pavane/shared/broker"
	"pavane/shared/postgres"
)

// chunk is one row of the journal: which rows of the outbox go to Kafka
// together, and under which sequence numbers. Number 0 stands before the first.
type chunk struct {
	number   int64
	prev     position
	target   position
	after    int64 // the chunk's rows have after < id <= upto
	upto     int64
	rows     int
	last     bool // the set ends with this chunk
	producer broker.Producer
	first    map[string]int32 // per "topic/partition": sequence number of the first record
	counts   map[string]int   // per "topic/partition": records of this chunk
	ends     map[string]int64 // per "topic/partition": where the log ended, at least, before the chunk
	offsets  map[string]int64 // per "topic/partition": of the first record, when it is in the log; -1 unknown
	stamp    int64            // timestamp of the records, milliseconds since 1970
	acked    bool
	progress map[string]progress // per "topic/partition" that goes in pieces

	incarnation string // of the server that showed the rows, or the chunk

	earlier earlier // see loadEarlier

	age  time.Duration // since it was planned, by the database's clock
	mine bool          // this relay planned it or sends it
}

// position is a place in the history of the database: a snapshot, and bounds
// for the search for what came after it. Every row of a transaction later than
// xid has an id above id: id was read from the sequence before xid was drawn,
// and a row draws its id after its transaction's xid.
type position struct {
	snapshot string
	id       int64
	xid      string
}

// origin is the position before every row: no normal transaction is visible in
// its snapshot.
func origin() position { return position{snapshot: "3:3:", id: 0, xid: "0"} }

const (
	headSQL = `select j.chunk, j.prev::text, j.prev_id, j.prev_xid::text, j.target::text, j.target_id, j.target_xid::text, j.after_id, j.upto_id,
  j.row_count, j.last_of_set, j.producer_id, j.producer_epoch, j.first_sequences, j.counts, j.progress, j.ends, coalesce(a.offsets, '{}'),
  j.stamp_ms, a.chunk is not null, (extract(epoch from clock_timestamp() - j.planned_at) * 1e6)::bigint,
  coalesce((select i.id::text from relay_incarnation i), '')
from relay_journal j left join relay_ack a on a.chunk = j.chunk `
	// notAcked holds for a chunk that is not acknowledged. A change of such a chunk
	// beside its acknowledgement needs no lock: it also demands the progress that
	// its author saw, and another relay that is further along has planned a later
	// chunk before it sent it, which the author has looked for.
	notAcked = `not exists (select from relay_ack a where a.chunk = $1)`

	// planSQL and ackSQL are single statements and not transactions of several:
	// a relay that is stopped in mid-transaction would hold its lock on the
	// chunk's number against all others. Both are safe to run twice. A plan made of
	// what an earlier incarnation of the server showed is none; nor does what was in
	// the log before say anything, for the database may have been set back since.
	planSQL = `with acked as (
  insert into relay_ack (chunk, acked_at, offsets)
  select $16::bigint, clock_timestamp() - $19 * interval '1 microsecond', $17::jsonb where $17::jsonb is not null
    and exists (select from relay_incarnation i where i.id = $21) on conflict do nothing)
insert into relay_journal (chunk, prev, prev_id, prev_xid, target, target_id, target_xid, after_id, upto_id, row_count,
  last_of_set, producer_id, producer_epoch, first_sequences, counts, stamp_ms, ends)
select $1, $2, $3, $4, $5, $6, coalesce($7::xid8, pg_current_xact_id()), $8, $9, $10, $11, $12, $13, $14, $15, $18, $20
where exists (select from relay_incarnation i where i.id = $21)
on conflict (chunk) do nothing returning target_xid::text`
	// ackSQL tells whether it found that incarnation; if so, the acknowledgement is
	// there, by this statement or an earlier one.
	ackSQL = `with life as (select from relay_incarnation i where i.id = $4), acked as (
  insert into relay_ack (chunk, acked_at, offsets)
  select $1, clock_timestamp() - $3 * interval '1 microsecond', $2 from life on conflict do nothing)
select exists (select from life)`
	// renewSQL moves an open chunk to another producer or epoch; whoever reads the
	// chunk afterwards sends it that way. It does nothing when another relay has
	// brought a piece in or parked a key: then the broker did not forget, it had
	// only heard of so much more than this relay knew. The lost partition's log may
	// end anywhere by now.
	renewSQL = `update relay_journal set producer_id = $3, producer_epoch = $4, first_sequences = $5, progress = $8, ends = ends - $9::text
where chunk = $1 and ` + notAcked + ` and producer_id = $10 and producer_epoch = $2 and progress = $6::jsonb and counts = $7::jsonb`
)

// loadHead reads the newest chunk; without one it is the chunk numbered 0.
func loadHead(ctx context.Context, db *postgres.DB) (*chunk, error) {
	return loadChunk(ctx, db, "order by j.chunk desc limit 1")
}

func loadChunk(ctx context.Context, db *postgres.DB, which string, args ...any) (*chunk, error) {
	var (
		c                                    chunk
		first, counts, pieces, ends, offsets []byte
		micros                               int64
	)
	err := db.SQL().QueryRowContext(ctx, headSQL+which, args...).Scan(&c.number, &c.prev.snapshot, &c.prev.id, &c.prev.xid,
		&c.target.snapshot, &c.target.id, &c.target.xid, &c.after, &c.upto, &c.rows, &c.last,
		&c.producer.ID, &c.producer.Epoch, &first, &counts, &pieces, &ends, &offsets, &c.stamp, &c.acked, &micros, &c.incarnation)
	if errors.Is(err, sql.ErrNoRows) {
		return &chunk{target: origin(), last: true, acked: true}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("relay journal: %w", err)
	}
	c.age = time.Duration(micros) * time.Microsecond
	err = errors.Join(json.Unmarshal(first, &c.first), json.Unmarshal(counts, &c.counts), json.Unmarshal(pieces, &c.progress),
		json.Unmarshal(ends, &c.ends), json.Unmarshal(offsets, &c.offsets))
	if err != nil {
		return nil, fmt.Errorf("relay journal: chunk %d: sequences: %w", c.number, err)
	}
	return &c, nil
}

// earlier tells of the leading records of a chunk's partition that were in the log
// when the chunk was moved to another producer, and so bear the numbers of the one
// before.
type earlier struct {
	records  int
	producer broker.Producer
	first    int32 // sequence number of the first of them
}

// loadEarlier finds out which records of a partition these are: renew counts it
// backwards from 0, and the chunk before is under the producer from before.
func (c *chunk) loadEarlier(ctx context.Context, db *postgres.DB, tp string) error {
	records := int(broker.NextSequence(0, -int(c.first[tp])))
	if records == 0 || records > c.counts[tp] {
		return nil
	}
	before, err := loadChunk(ctx, db, "where j.chunk = $1", c.number-1)
	if err != nil {
		return err
	}
	if before.number > 0 && before.producer != c.producer { // else its numbers have gone all the way round
		c.earlier = earlier{records: records, producer: before.producer, first: broker.NextSequence(before.first[tp], before.counts[tp])}
	}
	return nil
}

// next returns the chunk after c that holds the rows found.
func (c *chunk) next(found *rowSet, p broker.Producer) *chunk {
	n := &chunk{
		number: c.number + 1, prev: found.prev, target: found.target, after: found.after, upto: found.upto, rows: found.rows,
		last: !found.full, producer: p, stamp: found.stamp, ends: c.endsAfter(), incarnation: found.incarnation, first: make(map[string]int32, len(c.first)), counts: make(map[string]int, len(found.batches)),
	}
	maps.Copy(n.first, c.first)
	for tp, count := range c.counts {
		n.first[tp] = broker.NextSequence(n.first[tp], count)
	}
	for _, b := range found.batches {
		tp := name(b)
		n.counts[tp] = b.Len()
		if _, ok := n.first[tp]; !ok {
			n.first[tp] = 0
		}
	}
	return n
}

// endsAfter returns where the log ends, at least, behind the chunk: it holds all
// that was acknowledged.
func (c *chunk) endsAfter() map[string]int64 {
	ends := make(map[string]int64, len(c.ends)+len(c.offsets))
	maps.Copy(ends, c.ends)
	for tp, offset := range c.offsets {
		if offset >= 0 {
			ends[tp] = offset + int64(c.counts[tp])
		}
	}
	return ends
}

// floor is where the log ends, at least, before the chunk's record at the given
// place in its partition.
func (c *chunk) floor(tp string, at int) int64 { return max(c.ends[tp], c.offsets[tp]) + int64(at) }

// name is how the journal names a partition.
func name(b *broker.Batch) string { return place(b.Topic()) }

func place(topic string, partition int32) string {
	return topic + "/" + strconv.Itoa(int(partition))
}

// topicOf takes the topic out of a place's name.
func topicOf(tp string) string { return tp[:strings.LastIndexByte(tp, '/')] }

// insert writes the plan and, with it, the acknowledgement of the chunk before,
// which came age ago. It answers false when another relay has planned a chunk of
// this number, or the server has crashed since the rows were looked for.
func (c *chunk) insert(ctx context.Context, db *postgres.DB, before *chunk, offsets map[string]int64, age time.Duration) (bool, error) {
	first, err := json.Marshal(c.first)
	if err != nil {
		return false, err
	}
	counts, err := json.Marshal(c.counts)
	if err != nil {
		return false, err
	}
	ends, err := jsonOf(c.ends)
	if err != nil {
		return false, err
	}
	var acked []byte
	if offsets != nil {
		if acked, err = json.Marshal(offsets); err != nil {
			return false, err
		}
	}
	var drawn *string // a set's first chunk draws the xid of its target
	if c.target.xid != "" {
		drawn = &c.target.xid
	}
	err = db.SQL().QueryRowContext(ctx, planSQL, c.number, c.prev.snapshot, c.prev.id, c.prev.xid, c.target.snapshot, c.target.id, drawn,
		c.after, c.upto, c.rows, c.last, c.producer.ID, c.producer.Epoch, first, counts, before.number, acked, c.stamp, age.Microseconds(), ends, c.incarnation).Scan(&c.target.xid)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("relay journal: plan chunk %d: %w", c.number, err)
	}
	return true, nil
}

// ack notes that the chunk has been in the log since age ago. The error is
// errOvertaken when the server is not in the incarnation any more in which that
// was seen: then the chunk of this number can be another one.
func (c *chunk) ack(ctx context.Context, db *postgres.DB, incarnation string, offsets map[string]int64, age time.Duration) error {
	var stands bool
	b, err := json.Marshal(offsets)
	if err == nil {
		err = db.SQL().QueryRowContext(ctx, ackSQL, c.number, b, age.Microseconds(), incarnation).Scan(&stands)
	}
	if err == nil && !stands {
		err = errOvertaken
	}
	if err != nil {
		return fmt.Errorf("relay journal: acknowledge chunk %d: %w", c.number, err)
	}
	return nil
}

// renew gives an open chunk another producer, or the next epoch of its own, and
// answers false when another relay changed the chunk first. The partition lost
// ("": none) is counted from 0 with this chunk, and another one with its first
// record that is not in the log yet; so what is known to be in the log stays
// there once, whoever goes on.
func (c *chunk) renew(ctx context.Context, db *postgres.DB, p broker.Producer, lost string, done map[string]int64) (bool, error) {
	renewed := *c
	renewed.producer = p
	renewed.first, renewed.progress = make(map[string]int32, len(c.first)), maps.Clone(c.progress)
	delete(renewed.progress, lost)
	renewed.ends = maps.Clone(c.ends)
	delete(renewed.ends, lost)
	for tp, offset := range done {
		if _, inPieces := c.progress[tp]; !inPieces {
			if renewed.progress == nil {
				renewed.progress = make(map[string]progress, len(done))
			}
			renewed.progress[tp] = progress{Sizes: []int{c.counts[tp]}, Offset: offset}
		}
	}
	for tp := range c.first {
		renewed.first[tp] = broker.NextSequence(0, -renewed.progress[tp].done())
	}
	args := []any{c.number, c.producer.Epoch, renewed.producer.ID, renewed.producer.Epoch}
	for _, v := range []any{renewed.first, c.progress, c.counts, renewed.progress} {
		b, err := jsonOf(v)
		if err != nil {
			return false, err
		}
		args = append(args, b)
	}
	args = append(args, lost, c.producer.ID)
	res, err := db.SQL().ExecContext(ctx, renewSQL, args...)
	if err != nil {
		return false, fmt.Errorf("relay journal: new epoch for chunk %d: %w", c.number, err)
	}
	if changed, err := res.RowsAffected(); err != nil || changed == 0 {
		return false, err
	}
	*c = renewed
	return true, nil
}

// jsonOf writes a map, a nil one as {}.
func jsonOf(v any) (string, error) {
	b, err := json.Marshal(v)
	if string(b) == "null" {
		b = []byte(`{}`)
	}
	return string(b), err
}

// checkCounts takes over how many records the journal fixed, and compares with
// the rows read again.
func (c *chunk) checkCounts(set *rowSet) error {
	if set.counts == nil {
		return errOvertaken
	}
	c.counts, c.progress = set.counts, set.progress
	got := make(map[string]int, len(set.batches))
	for _, b := range set.batches {
		got[name(b)] = b.Len()
	}
	if !maps.Equal(got, c.counts) {
		return c.rowsGone(got, c.counts)
	}
	return nil
}

func (c *chunk) rowsGone(got, fixed any) error {
	return fmt.Errorf("%w: chunk %d has rows %v, the journal fixed %v; rows of the outbox were changed or deleted by hand",
		ErrRefuse, c.number, got, fixed)
}
