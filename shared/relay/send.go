package relay

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"pavane/shared/broker"
	"pavane/shared/failpoint"
)

// ErrRefuse is in the chain of the errors with which a relay refuses to go on,
// because going on would break a promise.
var ErrRefuse = errors.New("relay refuses to go on")

// errOvertaken says that another relay brought the chunk into the log.
var errOvertaken = errors.New("another relay brought the chunk into the log")

// send brings the head's batches into the log and returns the offset of each
// partition's first record. It tries again for ever: the batches keep their
// bytes and sequence numbers, so the broker keeps one copy. Partitions whose
// batch is refused come last, in pieces, and hold up no other.
func (r *Relay) send(ctx context.Context, batches []*broker.Batch) (map[string]int64, error) {
	offsets := make(map[string]int64, len(batches))
	for {
		if err := r.sendWhole(ctx, batches, offsets); err != nil {
			return nil, err
		}
		err := r.sendPieces(ctx, offsets)
		if err == nil {
			return offsets, nil
		}
		if !errors.Is(err, errNewEpoch) {
			return nil, err
		}
		set, err := r.reader.chunk(ctx, r.head)
		if err != nil {
			return nil, err
		}
		if err := r.head.checkCounts(set); err != nil {
			return nil, err
		}
		batches = set.batches
	}
}

// sendWhole brings every batch into the log that is not to go in pieces.
func (r *Relay) sendWhole(ctx context.Context, batches []*broker.Batch, offsets map[string]int64) error {
	var pause backoff
	for {
		todo := batches[:0:0]
		for _, b := range batches {
			_, sent := offsets[name(b)]
			if _, inPieces := r.head.progress[name(b)]; !sent && !inPieces {
				b.After(r.head.floor(name(b), 0))
				b.Seal(r.head.producer, r.head.first[name(b)])
				todo = append(todo, b)
			}
		}
		if len(todo) == 0 {
			return nil
		}
		retry, err := r.sendOnce(ctx, todo, offsets)
		if err != nil {
			return err
		}
		if retry == nil {
			continue
		}
		if pause.first() {
			r.cfg.Logger.Warn("relay cannot publish and tries again", "chunk", r.head.number, "error", retry.Error())
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
		if err := r.stillOurs(ctx); err != nil {
			return err
		}
	}
}

// sendOnce sends batches once and stores the offsets of those in the log. retry
// is the reason for which others must be sent again.
func (r *Relay) sendOnce(ctx context.Context, batches []*broker.Batch, offsets map[string]int64) (retry, err error) {
	results := r.cfg.Publisher.Produce(ctx, batches)
	for i, res := range results { // first of all: healing one partition must know of the others
		if res.Err != nil {
			continue
		}
		tp := name(batches[i])
		offsets[tp] = res.Offset
		if floor := r.head.floor(tp, 0); res.Offset >= 0 && res.Offset < floor {
			r.cfg.Logger.Error("the log was emptied behind the relay's back, and this chunk came before what was lost; find that with pavane audit",
				"partition", tp, "chunk", r.head.number, "offset", res.Offset, "acknowledged_up_to", floor)
		}
	}
	for i, res := range results {
		switch {
		case res.Err == nil:
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(res.Err, broker.ErrRefused):
			if err := r.cut(ctx, batches[i], res.Err); err != nil {
				return nil, err
			}
		case errors.Is(res.Err, broker.ErrSequenceGap), errors.Is(res.Err, broker.ErrFenced):
			if err := r.stillOurs(ctx); err != nil {
				return nil, err
			}
			if _, inPieces := r.head.progress[name(batches[i])]; inPieces {
				continue // another relay sends it so
			}
			if err := r.heal(ctx, name(batches[i]), offsets, res.Err); err != nil {
				retry = err
			}
		default:
			retry = fmt.Errorf("%s: %w", name(batches[i]), res.Err)
		}
	}
	return retry, nil
}

// stillOurs looks whether the head is still the journal's open head, and takes
// over how far others have brought it. A relay that slept past its time finds
// that another one went on; its own late copy was a no-op for the broker. When a
// standby took over that had not got the plan, the journal's head can bear the
// same number and producer and be another chunk: its copy would take that one's
// place.
func (r *Relay) stillOurs(ctx context.Context) error {
	head, err := loadHead(ctx, r.cfg.DB)
	if err != nil {
		return err
	}
	if head.number != r.head.number || head.acked || head.producer != r.head.producer ||
		head.incarnation != r.incarnation || head.target.xid != r.head.target.xid || head.upto != r.head.upto {
		return errOvertaken
	}
	r.head.counts, r.head.progress = head.counts, head.progress
	return nil
}

// heal puts back records that the broker acknowledged and lost (a log cut off
// by a crash): it steps back through the journal until the log reaches a batch
// of this partition and the broker recognises or takes it, then forward again to
// the head. Where nothing is recognised, the head goes on under a new epoch from
// 0, and the consumers' inboxes absorb what comes twice.
func (r *Relay) heal(ctx context.Context, tp string, done map[string]int64, cause error) error {
	r.cfg.Logger.Warn("the log lacks records that were acknowledged; putting them back from the outbox", "partition", tp, "cause", cause.Error())
	if err := failpoint.Hit(ctx, "relay.before_heal"); err != nil {
		return err
	}
	healer := newReader(r.cfg) // the batches of the head stay as they are
	from, err := r.stepBack(ctx, healer, tp, cause)
	if errors.Is(err, errNoFurther) {
		return r.newEpoch(ctx, tp, done)
	}
	if err != nil {
		return err
	}
	for number := from; number <= r.head.number; number++ {
		if err := r.putBack(ctx, healer, number, tp, math.MaxInt64); err != nil && !errors.Is(err, errNothing) {
			return err
		}
	}
	if err := failpoint.Hit(ctx, "relay.after_heal"); err != nil {
		return err
	}
	r.metrics.healed.Inc()
	return nil
}

// stepBack returns the chunk after the newest one that the log has, or has again
// by this. It answers errNoFurther only when nobody else moves the log: a relay
// that puts records back at the same time can be further ahead at any moment
// than the few batches which a broker remembers.
func (r *Relay) stepBack(ctx context.Context, healer *reader, tp string, cause error) (int64, error) {
	end, err := r.logEnd(ctx, tp)
	if err != nil {
		return 0, err
	}
	for number := r.head.number; ; number-- {
		if number, err = r.within(ctx, tp, number, end); err != nil {
			return 0, err
		}
		err := r.putBack(ctx, healer, number, tp, end)
		switch {
		case err == nil:
			return number + 1, nil
		case errors.Is(err, errNoFurther):
			now, err := r.logEnd(ctx, tp)
			if err == nil && now == end {
				err = errNoFurther
			} else if err == nil {
				err = fmt.Errorf("another relay puts them back: %w", cause)
			}
			return 0, err
		case !errors.Is(err, broker.ErrSequenceGap):
			return 0, err
		}
	}
}

// withinSQL looks through the 50,000 chunks up to $1 for the newest that has records
// of a partition and begins where the log still is, 0 for none; and tells the number
// before the oldest that it has looked at, null without any.
const withinSQL = `select coalesce(max(c.chunk) filter (where c.has and c.begins <= $3), 0), min(c.chunk) - 1 from (
  select j.chunk, j.counts ->> $2 is not null as has, greatest((j.ends ->> $2)::bigint, (a.offsets ->> $2)::bigint, 0) as begins
  from relay_journal j left join relay_ack a on a.chunk = j.chunk where j.chunk <= $1 order by j.chunk desc limit 50000) c`

// within returns the newest chunk up to one that can be followed in a log which ends
// at end, 0 for none.
func (r *Relay) within(ctx context.Context, tp string, upto, end int64) (found int64, err error) {
	for before := (sql.NullInt64{Int64: upto, Valid: true}); found == 0 && before.Valid; {
		if err := r.cfg.DB.SQL().QueryRowContext(ctx, withinSQL, before.Int64, tp, end).Scan(&found, &before); err != nil {
			return 0, fmt.Errorf("relay journal: chunks of %s up to %d: %w", tp, upto, err)
		}
	}
	return found, nil
}

var (
	errNoFurther = errors.New("the journal goes back no further")
	// errNothing: look further back.
	errNothing = fmt.Errorf("%w: the chunk has no record of this partition, or none that can follow", broker.ErrSequenceGap)
)

// putBack sends again what the journal says of one partition's records of a
// chunk: from the last piece that the broker recognises or takes. It answers
// errNothing for a chunk that begins behind reach, the end of the log.
func (r *Relay) putBack(ctx context.Context, rd *reader, number int64, tp string, reach int64) error {
	c, err := loadChunk(ctx, r.cfg.DB, "where j.chunk = $1", number)
	if err != nil {
		return err
	}
	if c.number == 0 {
		return errNoFurther
	}
	sizes := c.pieces(tp, !c.acked)
	if len(sizes) == 0 || c.floor(tp, 0) > reach {
		return errNothing
	}
	if err := c.loadEarlier(ctx, r.cfg.DB, tp); err != nil {
		return err
	}
	set, err := rd.records(ctx, c, tp)
	if err != nil {
		return err
	}
	if len(set.part.rows) != c.counts[tp] {
		return fmt.Errorf("%w: chunk %d: %s has %d rows left, the journal fixed %d; they are older than the retention",
			broker.ErrSequenceGap, number, tp, len(set.part.rows), c.counts[tp])
	}
	at, gap := progress{Sizes: sizes}.done(), error(errNothing)
	for i := len(sizes) - 1; i >= 0; i-- {
		at -= sizes[i]
		if gap = r.produce(ctx, c, set.part, at, sizes[i]).Err; gap == nil {
			return r.putForward(ctx, c, set.part, at+sizes[i], sizes[i+1:])
		}
		if errors.Is(gap, broker.ErrFenced) && c.producer != r.head.producer {
			return errNoFurther // the log has records of a later epoch
		}
		if !errors.Is(gap, broker.ErrSequenceGap) {
			return gap
		}
	}
	return gap
}

// putForward sends the pieces from place at on.
func (r *Relay) putForward(ctx context.Context, c *chunk, p part, at int, sizes []int) error {
	for _, size := range sizes {
		if err := r.produce(ctx, c, p, at, size).Err; err != nil {
			return err
		}
		at += size
	}
	return nil
}

func (r *Relay) newEpoch(ctx context.Context, tp string, done map[string]int64) error {
	if err := failpoint.Hit(ctx, "relay.before_epoch"); err != nil {
		return err
	}
	next := r.head.producer
	next.Epoch++
	renewed, err := r.head.renew(ctx, r.cfg.DB, next, tp, done)
	if err != nil {
		return err
	}
	if !renewed {
		return errOvertaken
	}
	r.cfg.Logger.Error("Kafka recognises no batch of this outbox any more; going on under a new epoch, records may come twice into the log",
		"chunk", r.head.number, "producer_id", r.head.producer.ID, "epoch", r.head.producer.Epoch)
	r.metrics.epochs.Inc()
	return failpoint.Hit(ctx, "relay.after_epoch")
}

// backoff is a capped, jittered wait between attempts.
type backoff struct {
	n    int
	idle time.Duration
}

const maxPause = time.Second

func (b *backoff) reset() { b.n = 0 }

// first tells whether this is an attempt to log: the first and then every
// tenth.
func (b *backoff) first() bool { return b.n%10 == 0 }

func (b *backoff) wait(ctx context.Context) error {
	pause := min(5*time.Millisecond<<min(b.n, 10), maxPause)
	b.n++
	return sleep(ctx, pause/2+rand.N(pause/2)) // #nosec G404 -- a pause is no secret
}

// nextIdle doubles the pause between looks at an idle outbox up to limit.
func (b *backoff) nextIdle(first, limit time.Duration) time.Duration {
	b.idle = min(max(2*b.idle, first), limit)
	return b.idle
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
