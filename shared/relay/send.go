package relay

import (
	"context"
	"errors"
	"fmt"
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
// bytes and sequence numbers, so the broker keeps one copy.
func (r *Relay) send(ctx context.Context, batches []*broker.Batch) (map[string]int64, error) {
	offsets := make(map[string]int64, len(batches))
	var pause backoff
	for {
		todo := batches[:0:0]
		for _, b := range batches {
			if _, ok := offsets[name(b)]; !ok {
				b.Seal(r.head.producer, r.head.first[name(b)])
				todo = append(todo, b)
			}
		}
		if len(todo) == 0 {
			return offsets, nil
		}
		retry, err := r.sendOnce(ctx, todo, offsets)
		if err != nil {
			return nil, err
		}
		if retry == nil {
			continue
		}
		if pause.first() {
			r.cfg.Logger.Warn("relay cannot publish and tries again", "chunk", r.head.number, "error", retry.Error())
		}
		if err := pause.wait(ctx); err != nil {
			return nil, err
		}
		if err := r.stillOurs(ctx); err != nil {
			return nil, err
		}
	}
}

// sendOnce sends batches once and stores the offsets of those in the log. retry
// is the reason for which others must be sent again.
func (r *Relay) sendOnce(ctx context.Context, batches []*broker.Batch, offsets map[string]int64) (retry, err error) {
	for i, res := range r.cfg.Publisher.Produce(ctx, batches) {
		switch {
		case res.Err == nil:
			offsets[name(batches[i])] = res.Offset
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(res.Err, broker.ErrSequenceGap), errors.Is(res.Err, broker.ErrFenced):
			if err := r.stillOurs(ctx); err != nil {
				return nil, err
			}
			if err := r.heal(ctx, batches[i], offsets, res.Err); err != nil {
				retry = err
			}
		default:
			retry = fmt.Errorf("%s: %w", name(batches[i]), res.Err)
		}
	}
	return retry, nil
}

// stillOurs looks whether the head is still the journal's open head. A relay
// that slept past its time finds that another one went on; its own late copy
// was a no-op for the broker.
func (r *Relay) stillOurs(ctx context.Context) error {
	head, err := loadHead(ctx, r.cfg.DB)
	if err != nil {
		return err
	}
	if head.number != r.head.number || head.acked || head.producer != r.head.producer {
		return errOvertaken
	}
	return nil
}

// heal puts back records that the broker acknowledged and lost (a log cut off
// by a crash): it steps back through the journal until the broker recognises or
// takes a batch of this partition, then forward again to the head. Where
// nothing is recognised, the head goes on under a new epoch from 0, and the
// consumers' inboxes absorb what comes twice.
func (r *Relay) heal(ctx context.Context, b *broker.Batch, done map[string]int64, cause error) error {
	tp := name(b)
	r.cfg.Logger.Warn("the log lacks records that were acknowledged; putting them back from the outbox", "partition", tp, "cause", cause.Error())
	from := r.head.number
	healer, err := newReader(ctx, r.cfg)
	if err != nil {
		return err
	}
	defer healer.close()
	for number := r.head.number - 1; ; number-- {
		c, err := loadChunk(ctx, r.cfg.DB, "where chunk = $1", number)
		if err != nil {
			return err
		}
		if c.number == 0 || c.producer != r.head.producer {
			return r.newEpoch(ctx, done)
		}
		if c.counts[tp] == 0 {
			continue
		}
		err = r.putBack(ctx, healer, c, tp)
		if err == nil {
			from = number + 1
			break
		}
		if !errors.Is(err, broker.ErrSequenceGap) {
			return err
		}
	}
	for number := from; number < r.head.number; number++ {
		c, err := loadChunk(ctx, r.cfg.DB, "where chunk = $1", number)
		if err != nil {
			return err
		}
		if err := r.putBack(ctx, healer, c, tp); err != nil {
			return err
		}
	}
	r.metrics.healed.Inc()
	return nil
}

// putBack sends one partition's batch of an old chunk again.
func (r *Relay) putBack(ctx context.Context, rd *reader, c *chunk, tp string) error {
	if c.counts[tp] == 0 {
		return nil
	}
	set, err := rd.chunk(ctx, c)
	if err != nil {
		return err
	}
	for _, b := range set.batches {
		if name(b) != tp {
			continue
		}
		if b.Len() != c.counts[tp] {
			return fmt.Errorf("%w: chunk %d: %s has %d rows left, the journal fixed %d; they are older than the retention",
				broker.ErrSequenceGap, c.number, tp, b.Len(), c.counts[tp])
		}
		b.Seal(c.producer, c.first[tp])
		return r.cfg.Publisher.Produce(ctx, []*broker.Batch{b})[0].Err
	}
	return fmt.Errorf("%w: chunk %d: no row of %s is left; they are older than the retention", broker.ErrSequenceGap, c.number, tp)
}

func (r *Relay) newEpoch(ctx context.Context, done map[string]int64) error {
	if err := failpoint.Hit(ctx, "relay.before_epoch"); err != nil {
		return err
	}
	renewed, err := r.head.renew(ctx, r.cfg.DB, done)
	if err != nil {
		return err
	}
	if !renewed {
		return errOvertaken
	}
	r.cfg.Logger.Error("Kafka recognises no batch of this outbox any more; going on under a new epoch, records may come twice into the log",
		"chunk", r.head.number, "producer_id", r.head.producer.ID, "epoch", r.head.producer.Epoch)
	r.metrics.epochs.Inc()
	return nil
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
	return sleep(ctx, pause/2+rand.N(pause/2))
}

// nextIdle doubles the pause between looks at an idle outbox up to limit.
func (b *backoff) nextIdle(limit time.Duration) time.Duration {
	b.idle = min(max(2*b.idle, time.Millisecond), limit)
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
