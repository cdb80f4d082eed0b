package react

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/failpoint"
	"pavane/shared/fault"
	"pavane/shared/inbox"
	"pavane/shared/postgres"
	"pavane/shared/tracing"
)

const maxRetryDelay = 2 * time.Second

// errMovedBack ends a generation whose offsets somebody set back in the
// database: reading must start again from there.
var errMovedBack = errors.New("the stored offset was set back; reading starts again from it")

// errAgain ends the spans of a transaction that is run again.
var errAgain = errors.New("another transaction was in the way; it is run again")

// apply brings a unit into the database. When a record in it fails, the unit
// is split until that record stands alone; the record is parked and the others
// are applied.
func (g *generation) apply(ctx context.Context, u unit) error {
	err := g.commit(ctx, u)
	if err == nil || ctx.Err() != nil || errors.Is(err, errMovedBack) || len(u.items) == 0 {
		return err
	}
	if len(u.items) > 1 {
		if !u.part {
			// Each of them may succeed alone, and then nothing else would tell.
			g.c.cfg.Logger.WarnContext(ctx, "batch failed, its records are tried in parts", slog.Int("records", len(u.items)), slog.Any("error", err))
		}
		first, second := u.halves()
		if err := g.apply(ctx, first); err != nil {
			return err
		}
		return g.apply(ctx, second)
	}
	it := u.items[0]
	it.verdict = g.c.judge(tracing.WithParent(ctx, it.env.TraceParent), it.parked("", ""), err)
	return g.commit(ctx, unit{items: []item{it}, ends: u.ends})
}

// commit runs the transaction of a unit until it stands, or fails for a reason
// that lies in the unit.
func (g *generation) commit(ctx context.Context, u unit) error {
	parking := len(u.items) == 1 && u.items[0].verdict != nil
	return g.insist(ctx, func() error {
		var p *pass
		around := points{"inbox.before_commit", "inbox.after_commit"}
		if parking {
			around = points{"inbox.before_park", "inbox.after_park"}
		}
		err := g.transact(ctx, around, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			p, err = g.run(ctx, tx, u)
			return err
		})
		if err == nil {
			g.committed(u.ends, p)
		} else if parking && !errors.Is(err, errMovedBack) {
			err = unavailable(err) // no handler ran, so it is not the record's fault
		}
		return err
	})
}

// insist repeats f while what it fails with will pass.
func (g *generation) insist(ctx context.Context, f func() error) error {
	defer g.report(func(s *status) { s.stuck = nil })
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || ctx.Err() != nil || !transient(err) {
			return err
		}
		g.report(func(s *status) {
			if s.stuck == nil || s.stuck.Error() != err.Error() {
				g.c.cfg.Logger.WarnContext(ctx, "records are tried again", slog.Any("error", err))
			}
			s.stuck = err
		})
		if err := pause(ctx, g.c.delay(attempt)); err != nil {
			return err
		}
	}
}

// points are the failpoints around a commit.
type points struct{ before, after string }

// transact is one transaction of this consumer. It begins with [generation.lock].
func (g *generation) transact(ctx context.Context, around points, f func(ctx context.Context, tx *sqlx.Tx) error) (err error) {
	defer func() { g.spans.End(err) }()
	err = g.c.cfg.DB.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		g.spans.End(errAgain) // of an attempt that another transaction was in the way of
		if err := f(ctx, tx); err != nil {
			return err
		}
		return hit(ctx, around.before)
	})
	if err != nil {
		return err
	}
	// The commit stands, but this process behaves as if it had not heard so.
	if err := hit(ctx, around.after); err != nil {
		return fault.Unavailable("%w: %w", postgres.ErrCommitUnknown, err)
	}
	return nil
}

// lock keeps others off the partitions, and off everything where the service
// asks for it. It returns the offsets that count.
func (g *generation) lock(ctx context.Context, tx *sqlx.Tx, offsets []inbox.Offset) (locked []inbox.Offset, err error) {
	if g.c.cfg.Serial {
		locked, err = inbox.LockAlone(ctx, tx, g.c.cfg.Service, offsets)
	} else {
		locked, err = inbox.Lock(ctx, tx, offsets)
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return locked, nil
}

// run is the transaction of a unit.
func (g *generation) run(ctx context.Context, tx *sqlx.Tx, u unit) (*pass, error) {
	locked, err := g.lock(ctx, tx, u.ends)
	if err != nil {
		return nil, err
	}
	items, err := g.fresh(locked, u)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(items, byKey)
	p := g.newPass(tx, locked)
	if err := p.load(ctx, items); err != nil {
		return nil, unavailable(err)
	}
	if err := p.handle(ctx, items); err != nil {
		return nil, err
	}
	return p, p.finish(ctx, u.ends)
}

// fresh returns the records at or above the offsets that count. Another member
// may have gone on with a partition that this one still believes to be its own.
func (g *generation) fresh(locked []inbox.Offset, u unit) ([]*item, error) {
	next, err := g.inPlace(locked, u.ends)
	if err != nil {
		return nil, err
	}
	items := make([]*item, 0, len(u.items))
	for i := range u.items {
		it := &u.items[i]
		if it.rec.Offset >= next[partition{it.rec.Topic, it.rec.Partition}] {
			items = append(items, it)
		}
	}
	return items, nil
}

// inPlace returns the stored offsets by partition, after a look whether those of the
// partitions wanted are where this generation left them, or further on.
func (g *generation) inPlace(stored, wanted []inbox.Offset) (map[partition]int64, error) {
	next := make(map[partition]int64, len(stored))
	for _, o := range stored {
		next[partition{o.Topic, o.Partition}] = o.Next
	}
	for _, o := range wanted {
		at := partition{o.Topic, o.Partition}
		if n, ok := next[at]; !ok || n < g.stored(at) {
			return nil, fmt.Errorf("partition %s/%d: stored offset %d, was %d: %w", o.Topic, o.Partition, n, g.stored(at), errMovedBack)
		}
	}
	return next, nil
}

// judge decides what becomes of a record whose handler failed with err.
func (c *Consumer) judge(ctx context.Context, p inbox.Parked, err error) *verdict {
	p.Attempts++
	p.Cause, p.Reason = inbox.Retry, brief(err)
	switch class := fault.ClassOf(err); {
	case class != fault.ClassUnknown, postgres.Unfit(err), p.Attempts >= c.cfg.MaxAttempts:
		p.Cause = inbox.Fault
	default:
		p.RetryIn = c.delay(p.Attempts)
	}
	c.metrics.faults.Inc()
	c.cfg.Logger.ErrorContext(ctx, "reaction failed", slog.String("kind", p.Kind), slog.String("source", p.Source), slog.String("key", p.Key),
		slog.Int64("sequence", p.Sequence), slog.Int("attempt", p.Attempts), slog.String("parked", string(p.Cause)), slog.String("error", p.Reason))
	return &verdict{p}
}

// delay grows with the attempts, from 1 on; half of it is chance.
func (c *Consumer) delay(attempt int) time.Duration {
	d := min(c.cfg.RetryDelay<<min(attempt-1, 16), maxRetryDelay)
	return d/2 + rand.N(d/2+1) // #nosec G404 -- a pause is no secret
}

// transient tells whether the same unit may succeed later, whatever it holds.
func transient(err error) bool {
	class := fault.ClassOf(err)
	return class == fault.ClassUnavailable || class == fault.ClassUnknown && postgres.Retryable(err)
}

// unavailable marks an error that does not come from a handler. The end of a
// generation by [errMovedBack] keeps its own class.
func unavailable(err error) error { return fault.Unavailable("%w", err) }

// hit passes a failpoint; its error is one that passes.
func hit(ctx context.Context, point string) error {
	if err := failpoint.Hit(ctx, point); err != nil {
		return unavailable(err)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
