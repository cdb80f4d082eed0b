package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"pavane/shared/broker"
	"pavane/shared/failpoint"
	"pavane/shared/postgres"
)

// errNewEpoch says that the head was moved to a new producer epoch and begins
// from its first record.
var errNewEpoch = errors.New("the chunk goes on under a new producer epoch")

// progress is how far a partition's records of a chunk have come since Kafka
// refused them in one batch. It is in the journal before a piece is sent, so
// whoever sends that piece again sends the same records under the same sequence
// numbers, and the broker recognises it.
type progress struct {
	Sizes  []int `json:"sizes,omitempty"`  // of the pieces in the log, in order
	Offset int64 `json:"offset,omitempty"` // of the first piece's first record; -1 unknown
	Size   int   `json:"size,omitempty"`   // of the piece sent next; 0: the rest
}

// done returns how many leading records are in the log.
func (p progress) done() (n int) {
	for _, size := range p.Sizes {
		n += size
	}
	return n
}

// accepted returns the progress after a piece of n records. The next piece is
// as large: where records are refused for their sum, it fits.
func (p progress) accepted(n int, offset int64) progress {
	if len(p.Sizes) == 0 {
		p.Offset = offset
	}
	p.Sizes = append(slices.Clone(p.Sizes), n)
	return p
}

const (
	// unchanged guards a change of the journal: the chunk is open, under the
	// same epoch, and nobody has moved this partition on.
	unchanged = `chunk = $1 and ` + notAcked + ` and producer_id = $3 and producer_epoch = $4
  and progress -> $2::text is not distinct from $5::jsonb and counts -> $2::text = to_jsonb($6::integer)`
	// Single statements, as in journal.go.
	stepSQL = `update relay_journal set progress = progress || jsonb_build_object($2::text, $7::jsonb) where ` + unchanged
	parkSQL = `with lowered as (
  update relay_journal set progress = progress || jsonb_build_object($2::text, $7::jsonb),
    counts = case when $8::integer = 0 then counts - $2::text else counts || jsonb_build_object($2::text, $8::integer) end
  where ` + unchanged + ` returning chunk)
insert into relay_parked (key, topic, since_id, chunk, reason) select $9, $10, $11, l.chunk, $12 from lowered l`
)

// step notes a partition's next progress and answers false when another relay
// changed the chunk first.
func (c *chunk) step(ctx context.Context, db *postgres.DB, tp string, next progress) (bool, error) {
	moved, err := c.change(ctx, db, stepSQL, tp, next)
	if moved {
		if c.progress == nil {
			c.progress = make(map[string]progress, 1)
		}
		c.progress[tp] = next
	}
	return moved, err
}

// change runs stepSQL or parkSQL.
func (c *chunk) change(ctx context.Context, db *postgres.DB, query, tp string, next progress, more ...any) (bool, error) {
	var before *string
	if p, ok := c.progress[tp]; ok {
		b, err := json.Marshal(p)
		if err != nil {
			return false, err
		}
		s := string(b)
		before = &s
	}
	after, err := json.Marshal(next)
	if err != nil {
		return false, err
	}
	args := append([]any{c.number, tp, c.producer.ID, c.producer.Epoch, before, c.counts[tp], string(after)}, more...)
	res, err := db.SQL().ExecContext(ctx, query, args...)
	if err != nil {
		return false, fmt.Errorf("relay journal: chunk %d: %s: %w", c.number, tp, err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// pieces returns the sizes of the batches in which a partition's records of
// this chunk went into the log, as far as the journal knows.
func (c *chunk) pieces(tp string, open bool) []int {
	if p, ok := c.progress[tp]; ok {
		return p.Sizes
	}
	if open || c.counts[tp] == 0 {
		return nil
	}
	return []int{c.counts[tp]}
}

// cut begins to send a refused batch in pieces, unless another relay has begun: how
// far that one has come is known since the partition before was looked at, and must
// stand.
func (r *Relay) cut(ctx context.Context, b *broker.Batch, cause error) error {
	if _, begun := r.head.progress[name(b)]; begun {
		return nil
	}
	r.cfg.Logger.Warn("Kafka refuses a batch; sending it in pieces", "chunk", r.head.number, "records", b.Len(), "error", cause.Error())
	if err := failpoint.Hit(ctx, "relay.before_cut"); err != nil {
		return err
	}
	moved, err := r.head.step(ctx, r.cfg.DB, name(b), progress{Size: max(b.Len()/2, 1)})
	if err != nil {
		return err
	}
	if moved {
		return failpoint.Hit(ctx, "relay.after_cut")
	}
	return r.stillOurs(ctx) // another relay has begun; follow it
}

// sendPieces brings the refused partitions of the head into the log, one after
// the other.
func (r *Relay) sendPieces(ctx context.Context, offsets map[string]int64) error {
	for _, tp := range slices.Sorted(maps.Keys(r.head.progress)) {
		if _, ok := offsets[tp]; ok {
			continue
		}
		s := pieceSender{Relay: r, tp: tp, offsets: offsets, healedAt: -1}
		if err := s.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// pieceSender sends one refused partition of the head. Refused pieces are
// halved; a record refused alone parks its key.
type pieceSender struct {
	*Relay
	tp       string
	offsets  map[string]int64
	part     part
	known    bool // part and the head's progress are of one moment
	healedAt int  // the position at which the log was healed last; -1 none
	pause    backoff
}

func (s *pieceSender) run(ctx context.Context) error {
	for {
		if !s.known {
			if err := s.look(ctx); err != nil {
				return err
			}
		}
		p := s.head.progress[s.tp]
		if p.done() == len(s.part.rows) {
			if len(p.Sizes) > 0 {
				s.offsets[s.tp] = p.Offset
			}
			return nil
		}
		if err := s.piece(ctx, p); err != nil {
			return err
		}
	}
}

// look reads the partition's rows, and how far they have come, again.
func (s *pieceSender) look(ctx context.Context) error {
	set, err := s.reader.records(ctx, s.head, s.tp)
	if err != nil {
		return err
	}
	if _, ok := set.progress[s.tp]; !ok {
		return errOvertaken
	}
	s.head.counts, s.head.progress, s.part, s.known = set.counts, set.progress, set.part, true
	if got, fixed := len(s.part.rows), s.head.counts[s.tp]; got != fixed || set.progress[s.tp].done() > got {
		return s.head.rowsGone(got, fixed)
	}
	return nil
}

// piece sends the next piece and notes what became of it.
func (s *pieceSender) piece(ctx context.Context, p progress) error {
	at := p.done()
	n := len(s.part.rows) - at
	if p.Size > 0 {
		n = min(n, p.Size)
	}
	if err := failpoint.Hit(ctx, "relay.before_piece"); err != nil {
		return err
	}
	res := s.produce(ctx, s.head, s.part, at, n)
	switch {
	case res.Err == nil:
		s.pause.reset()
		if err := failpoint.Hit(ctx, "relay.after_piece"); err != nil {
			return err
		}
		return s.move(ctx, p.accepted(n, res.Offset))
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(res.Err, broker.ErrRefused) && n > 1:
		p.Size = n / 2
		return s.move(ctx, p)
	case errors.Is(res.Err, broker.ErrRefused):
		return s.park(ctx, p, res.Err)
	case errors.Is(res.Err, broker.ErrSequenceGap), errors.Is(res.Err, broker.ErrFenced):
		return s.gap(ctx, at, res.Err)
	}
	if s.pause.first() {
		s.cfg.Logger.Warn("relay cannot publish and tries again", "chunk", s.head.number, "error", res.Err.Error())
	}
	if err := s.pause.wait(ctx); err != nil {
		return err
	}
	return s.follow(ctx)
}

func (s *pieceSender) move(ctx context.Context, next progress) error {
	moved, err := s.head.step(ctx, s.cfg.DB, s.tp, next)
	if err != nil {
		return err
	}
	if moved {
		return failpoint.Hit(ctx, "relay.after_step")
	}
	return s.follow(ctx)
}

// follow looks what another relay may have done with the head.
func (s *pieceSender) follow(ctx context.Context) error {
	s.known = false
	return s.stillOurs(ctx)
}

// park takes the key of the next record, which is refused alone, out of the
// chunk from this record on; the records behind it move up, and sequence
// numbers stay unbroken.
func (s *pieceSender) park(ctx context.Context, p progress, cause error) error {
	rows := s.part.rows
	bad := rows[p.done()]
	left := len(rows)
	for _, row := range rows[p.done():] {
		if string(row.key) == string(bad.key) {
			left--
		}
	}
	p.Size = 0
	if err := failpoint.Hit(ctx, "relay.before_park"); err != nil {
		return err
	}
	parked, err := s.head.change(ctx, s.cfg.DB, parkSQL, s.tp, p, left, string(bad.key), s.part.topic, bad.id, cause.Error())
	if err != nil {
		return err
	}
	if parked {
		s.cfg.Logger.Error("Kafka refuses a record for itself; its key is parked and its later rows stay in the outbox",
			"key", string(bad.key), "topic", s.part.topic, "row", bad.id, "error", cause.Error())
		if err := failpoint.Hit(ctx, "relay.after_park"); err != nil {
			return err
		}
	}
	return s.follow(ctx)
}

// gap treats an answer that says the broker does not know the piece before: the
// head may have moved on, or the log has lost records. Where healing does not
// help, the head goes on under a new epoch.
func (s *pieceSender) gap(ctx context.Context, at int, cause error) error {
	before, count := s.head.progress[s.tp], s.head.counts[s.tp]
	if err := s.follow(ctx); err != nil {
		return err
	}
	now, ok := s.head.progress[s.tp]
	if !ok || now.Size != before.Size || !slices.Equal(now.Sizes, before.Sizes) || s.head.counts[s.tp] != count {
		return nil
	}
	producer := s.head.producer
	var err error
	if s.healedAt == at {
		err = s.newEpoch(ctx, s.tp, s.offsets)
	} else {
		err = s.heal(ctx, s.tp, s.offsets, cause)
		s.healedAt = at
	}
	if err != nil {
		return err
	}
	if s.head.producer != producer {
		return errNewEpoch
	}
	return nil
}

// produce sends n records of a chunk's partition, from place at on.
func (r *Relay) produce(ctx context.Context, c *chunk, p part, at, n int) broker.Result {
	var b broker.Batch
	b.Reset(p.topic, p.partition)
	for _, row := range p.rows[at : at+n] {
		b.Add(c.stamp, row.key, row.payload, row.headers)
	}
	tp := place(p.topic, p.partition)
	b.After(c.floor(tp, at))
	if at < c.earlier.records {
		b.Seal(c.earlier.producer, broker.NextSequence(c.earlier.first, at))
	} else {
		b.Seal(c.producer, broker.NextSequence(c.first[tp], at))
	}
	return r.cfg.Publisher.Produce(ctx, []*broker.Batch{&b})[0]
}
