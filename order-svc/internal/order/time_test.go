package order

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"go.uber.org/goleak"

	"pavane/internal/leaks"
	"pavane/shared/failpoint"
	"pavane/shared/fault"
)

// at once: an order of such a service is due when it is placed.
const atOnce = 0

func TestFireDue_StillPlaced_IsCancelledOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	o := b.place()
	for range 2 {
		if _, err := b.s.FireDue(b.ctx); err != nil {
			t.Fatal(err)
		}
	}
	b.must(b.s.fire(b.ctx, o.ID)) // by another instance that looked it up before
	if got := b.get(o); got.State != Cancelled || got.Reason != ByDeadline {
		t.Errorf("got %+v", got)
	}
	if got := b.published(o.ID); !slices.Equal(got, []string{"order.placed.v1", "order.cancelled.v1"}) {
		t.Errorf("published %v", got)
	}
	if n := b.count(`select count(*) from deadlines`); n != 0 {
		t.Errorf("%d deadlines left", n)
	}
}

func TestFireDue_NotDueOrDecided_IsLeftAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Hour)
	young, confirmed := b.place(), b.place()
	b.must(b.authorize(confirmed))
	if n := b.count(`select count(*) from deadlines where order_id = $1`, confirmed.ID); n != 0 {
		t.Errorf("the confirmed order still has a deadline")
	}
	// A stray row of a decided order, as an older release may have left it.
	b.must(b.exec(`insert into deadlines (order_id, due_at, try_at) values ($1, now(), now())`, confirmed.ID))
	if n, err := b.s.FireDue(b.ctx); err != nil || n != 1 {
		t.Errorf("fired %d, %v", n, err)
	}
	if got := b.get(confirmed); got.State != Confirmed {
		t.Errorf("the confirmed order is %s", got.State)
	}
	if got := b.get(young); got.State != Placed {
		t.Errorf("the young order is %s", got.State)
	}
	if n := b.count(`select count(*) from deadlines`); n != 1 {
		t.Errorf("%d deadlines, want that of the young order", n)
	}
}

// A deadline that was set while the database's clock was an hour ahead lies an
// hour further off than any is long.
func TestFireDue_ClockHasGoneBack_DeadlineIsCountedAnew(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	fresh, failed := b.place(), b.place()
	b.must(b.exec(`update deadlines set due_at = due_at + interval '1 hour', try_at = try_at + interval '1 hour'`))
	b.must(b.exec(`update deadlines set attempts = 3 where order_id = $1`, failed.ID))
	for range 2 {
		if _, err := b.s.FireDue(b.ctx); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.get(fresh); got.State != Placed {
		t.Errorf("the order whose time is not up is %s", got.State)
	}
	if n := b.count(`select count(*) from deadlines where order_id = $1 and due_at = try_at and due_at between clock_timestamp() and clock_timestamp() + interval '1 minute'`, fresh.ID); n != 1 {
		t.Error("the deadline is not a minute from now")
	}
	if n := b.count(`select count(*) from deadlines where order_id = $1 and try_at < clock_timestamp() + interval '10 seconds'`, failed.ID); n != 1 {
		t.Error("the one that failed is not tried again soon")
	}
}

func TestFireDue_OneFails_NoOtherStarves(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	poison, others := b.place(), []Order{b.place(), b.place(), b.place()}
	b.must(b.exec(`create function refuse() returns trigger language plpgsql as $$ begin raise exception 'refused by the test'; end $$`))
	b.must(b.exec(`create trigger refuse before update on orders for each row when (old.order_id = '` + poison.ID + `') execute function refuse()`))
	if n, err := b.s.FireDue(b.ctx); err != nil || n != len(others) {
		t.Errorf("fired %d, %v; want %d", n, err, len(others))
	}
	for _, o := range others {
		if got := b.get(o); got.State != Cancelled {
			t.Errorf("order %s is %s", o.ID, got.State)
		}
	}
	if n := b.count(`select count(*) from deadlines where order_id = $1 and attempts = 1 and try_at > clock_timestamp()`, poison.ID); n != 1 {
		t.Error("the failing one is not put off")
	}
	b.must(b.exec(`drop trigger refuse on orders`))
	b.must(b.exec(`update deadlines set try_at = due_at`))
	if n, err := b.s.FireDue(b.ctx); err != nil || n != 1 {
		t.Errorf("fired %d, %v, after the cause was gone", n, err)
	}
}

func TestFireDue_OrderIsBeingDecided_DoesNotWaitForIt(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	locked, other := b.place(), b.place()
	b.must(b.db.InTx(b.ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := load(ctx, tx.GetContext, lockSQL, locked.ID, Anybody); err != nil {
			return err
		}
		soon, cancel := context.WithTimeout(b.ctx, 5*time.Second) // a statement that waits takes 10 s to give up
		defer cancel()
		if n, err := b.s.FireDue(soon); err != nil || n != 1 {
			t.Errorf("fired %d, %v", n, err)
		}
		return nil
	}))
	if got := b.get(locked).State; got != Placed {
		t.Errorf("the locked order is %s", got)
	}
	if got := b.get(other).State; got != Cancelled {
		t.Errorf("the other order is %s", got)
	}
}

func TestFireDue_SeveralInstances_EachOrderOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	var orders []Order
	for range 40 {
		orders = append(orders, b.place())
	}
	var wg sync.WaitGroup
	for range 4 {
		s := b.instance(atOnce)
		wg.Go(func() {
			for b.count(`select count(*) from deadlines`) > 0 && b.ctx.Err() == nil {
				if _, err := s.FireDue(b.ctx); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, o := range orders {
		if got := b.published(o.ID); len(got) != 2 {
			t.Errorf("%s published %v", o.ID, got)
		}
	}
}

func TestFire_CrashBeforeCommit_LeavesTheDeadline(t *testing.T) {
	t.Parallel()
	b := setup(t, atOnce)
	o := b.place()
	set, err := failpoint.Parse("order.before_deadline=error")
	b.must(err)
	if err := b.s.fire(failpoint.With(b.ctx, set), o.ID); err == nil {
		t.Fatal("no error")
	}
	if got := b.get(o); got.State != Placed || b.count(`select count(*) from deadlines`) != 1 {
		t.Errorf("the order is %s", got.State)
	}
}

func TestRun_FiresAndEndsWithItsContext(t *testing.T) {
	b := setup(t, atOnce)
	o := b.place()
	defer leaks.None(t, goleak.IgnoreCurrent()) // the pool's goroutines are the test's own
	ctx, cancel := context.WithCancel(b.ctx)
	done := make(chan error, 1)
	go func() { done <- b.s.Run(ctx) }()
	if got, err := b.s.Await(b.ctx, o.ID, Anybody, 20*time.Second); err != nil || got.State != Cancelled {
		t.Errorf("got %+v, %v", got, err)
	}
	cancel()
	b.must(<-done)
	// Nobody waits in a process that stops.
	later := b.place()
	if got, err := b.s.Await(b.ctx, later.ID, Anybody, time.Hour); err != nil || got.State != Placed {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAwait_DecidedHereOrByAnotherInstance_AnswersAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Hour)
	for name, decider := range map[string]*Service{"this instance": b.s, "another instance": b.instance(time.Hour)} {
		o := b.place()
		got := make(chan Order, 1)
		go func() {
			o, err := b.s.Await(b.ctx, o.ID, Anybody, 20*time.Second)
			if err != nil {
				t.Error(err)
			}
			got <- o
		}()
		if _, err := decider.Cancel(b.ctx, o.ID, Anybody); err != nil {
			t.Fatal(err)
		}
		if o := <-got; o.State != Cancelled {
			t.Errorf("by %s: the answer says %s", name, o.State)
		}
	}
	if n := len(b.s.waiters.byOrder); n != 0 {
		t.Errorf("%d orders are still waited for", n)
	}
}

// TestAwait_CommitOfThisInstance_WakesWithoutPolling holds that the wake-up works
// by itself: the waiter is signalled after the commit, and not before it.
func TestAwait_CommitOfThisInstance_WakesWithoutPolling(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Hour)
	o := b.place()
	woken, leave := b.s.waiters.join(o.ID)
	defer leave()
	b.must(b.db.InTx(b.ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, _, err := b.s.change(ctx, tx, o.ID, step{lock: lockSQL}, inputs()["customer"]); err != nil {
			return err
		}
		select {
		case <-woken:
			t.Error("woken before the commit")
		default:
		}
		return nil
	}))
	select {
	case <-woken:
	default:
		t.Error("not woken by the commit")
	}
}

func TestAwait_TimeOver_AnswersWithTheOrderAsItIs(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Hour)
	o := b.place()
	if got, err := b.s.Await(b.ctx, o.ID, Anybody, time.Millisecond); err != nil || got.State != Placed {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := b.s.Await(b.ctx, "0199b1a0-0000-7000-8000-000000000001", Anybody, time.Hour); fault.ClassOf(err) != fault.ClassNotFound {
		t.Errorf("unknown order: %v", err)
	}
}
