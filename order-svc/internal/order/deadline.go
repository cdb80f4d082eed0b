package order

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/failpoint"
	"pavane/shared/fault"
)

const (
	// deadlineBatch is how many due orders are looked up at once.
	deadlineBatch = 100
	// deadlinePoll is how late a deadline fires at most when there is no jam.
	deadlinePoll = 250 * time.Millisecond
	// deadlinePause is the wait after the database failed.
	deadlinePause = 2 * time.Second
)

// Run fires deadlines until ctx ends, and then answers everybody who waits in
// [Service.Await]. Several processes may run it on one database.
func (s *Service) Run(ctx context.Context) error {
	defer s.waiters.stop()
	for {
		n, err := s.FireDue(ctx)
		pause := deadlinePoll
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.log.WarnContext(ctx, "deadlines are not fired now", "error", err)
			pause = deadlinePause
		case n == deadlineBatch:
			pause = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// FireDue cancels orders that are still placed at their deadline, a batch at
// most, each in a transaction of its own. One that fails, or whose row is locked
// because it is being decided, is put off, so it stands in no other's way. Those
// that a clock which has gone back has put too far off are counted anew. It
// returns how many were dealt with; the error is that of the database as a whole.
func (s *Service) FireDue(ctx context.Context) (fired int, err error) {
	var deadlines []struct {
		ID      string `db:"order_id"`
		Strayed bool   `db:"strayed"`
	}
	err = s.db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		deadlines = nil
		return tx.SelectContext(ctx, &deadlines, dueSQL, deadlineBatch, s.deadline.Microseconds())
	})
	if err != nil {
		return 0, fmt.Errorf("deadlines: look up: %w", err)
	}
	for _, d := range deadlines {
		if d.Strayed {
			if err := s.perform(ctx, rearmSQL, d.ID, s.deadline.Microseconds()); err != nil {
				return fired, fmt.Errorf("deadline of order %s: count it anew: %w", d.ID, err)
			}
			continue
		}
		id := d.ID
		err := s.fire(ctx, id)
		if err == nil {
			fired++
			continue
		}
		if ctx.Err() != nil {
			return fired, ctx.Err()
		}
		if fault.ClassOf(err) != fault.ClassNotFound { // else locked: it is being decided
			s.log.WarnContext(ctx, "deadline put off", "order_id", id, "error", err)
		}
		if err := s.perform(ctx, postponeSQL, id); err != nil {
			return fired, fmt.Errorf("deadline of order %s: put off: %w", id, err)
		}
	}
	return fired, nil
}

// fire requests the cancellation of one order. A locked row is not found. The
// order's row is locked before its deadline's, as everywhere.
func (s *Service) fire(ctx context.Context, id string) error {
	o, err := s.act(ctx, step{fireSQL, Anybody, "order.before_deadline", "order.after_deadline"}, id, func(o Order) (Order, []event.Event, error) {
		return o.Cancel(ByDeadline, "the order was not decided before its deadline")
	})
	if errors.Is(err, ErrConfirmed) || err == nil && o.Reason != ByDeadline {
		return s.perform(ctx, clearSQL, id) // decided since it was looked up
	}
	return err
}

// perform changes what is noted of one deadline.
func (s *Service) perform(ctx context.Context, statement string, args ...any) error {
	err := s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, statement, args...); err != nil {
			return err
		}
		return failpoint.Hit(ctx, "order.before_put_off")
	})
	if err != nil {
		return err
	}
	return failpoint.Hit(ctx, "order.after_put_off")
}
