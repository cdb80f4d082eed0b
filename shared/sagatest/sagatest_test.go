package sagatest_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
	"pavane/shared/react"
	"pavane/shared/sagatest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

type asked struct {
	ID string `json:"id"`
	N  int64  `json:"n"`
}

func (asked) Kind() string  { return "test.asked.v1" }
func (e asked) Key() string { return e.ID }

type answered struct {
	ID string `json:"id"`
	N  int64  `json:"n"`
}

func (answered) Kind() string  { return "test.answered.v1" }
func (e answered) Key() string { return e.ID }

func answer(_ context.Context, _ *sqlx.Tx, e asked) ([]event.Numbered, error) {
	if e.N == 13 {
		return nil, fault.Permanent("unlucky")
	}
	return event.Number(e.N, answered(e)), nil
}

func newOutbox(t *testing.T, db *postgres.DB) *outbox.Outbox {
	t.Helper()
	out, err := outbox.New(outbox.Config{Source: "/test", Topics: event.Topics{"test": "tests.events.v1"}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestApply_PublishesWhatTheReactionReturns(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	out, r := newOutbox(t, db), react.On(answer, answered{})
	if err := sagatest.Apply(t, db, out, r, asked{ID: "a", N: 1}); err != nil {
		t.Fatal(err)
	}
	sagatest.RequireHandledOnce(t, db, out, r, asked{ID: "a", N: 2})
	sagatest.RequirePublished(t, db, event.Number(1, answered{ID: "a", N: 1}, answered{ID: "a", N: 2})...)
}

func TestApply_FaultyReaction_SaysWhy(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	err := sagatest.Apply(t, db, newOutbox(t, db), react.On(answer, answered{}), asked{ID: "a", N: 13})
	if err == nil || !strings.Contains(err.Error(), "unlucky") {
		t.Fatalf("apply: %v; want the handler's fault", err)
	}
	sagatest.RequirePublished(t, db)
}

// recorder takes the verdict of a helper instead of the test.
type recorder struct {
	testing.TB
	failure string
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	panic(r)
}

func verdict(t *testing.T, check func(tb testing.TB)) string {
	t.Helper()
	r := &recorder{TB: t}
	func() {
		defer func() { _ = recover() }()
		check(r)
	}()
	return r.failure
}

func TestRequirePublished_OtherEvents_Fails(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	if err := sagatest.Apply(t, db, newOutbox(t, db), react.On(answer, answered{}), asked{ID: "a", N: 1}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]event.Numbered{
		"none":           nil,
		"other data":     event.Number(1, answered{ID: "a", N: 2}),
		"other sequence": event.Number(2, answered{ID: "a", N: 1}),
		"one more":       event.Number(1, answered{ID: "a", N: 1}, answered{ID: "a", N: 2}),
	} {
		if verdict(t, func(tb testing.TB) { sagatest.RequirePublished(tb, db, want...) }) == "" {
			t.Errorf("%s: passed; want a failure", name)
		}
	}
}

// sums adds up what it is told, unless spoiled.
func sums(spoil func(have, fact int64) (told int64, err error)) func(int) sagatest.Run[int64, int64] {
	return func(int) sagatest.Run[int64, int64] {
		var total, number int64
		return sagatest.Run[int64, int64]{
			Tell: func(fact int64) ([]event.Numbered, error) {
				told, err := spoil(total, fact)
				if err != nil || told == 0 {
					return nil, err
				}
				total, number = total+told, number+1
				return event.Number(number, answered{ID: "a", N: total}), nil
			},
			End: func([]event.Numbered) int64 { return total },
		}
	}
}

func TestRequireSameEnd_EveryOrderEndsTheSame_Passes(t *testing.T) {
	t.Parallel()
	runs := 0
	begin := sums(func(_, fact int64) (int64, error) { return fact, nil })
	sagatest.RequireSameEnd(t, 12, []int64{1, 2, 3}, func(n int) sagatest.Run[int64, int64] {
		if n != runs {
			t.Errorf("run %d is called %d", runs, n)
		}
		runs++
		return begin(n)
	})
	if runs != 90 { // 6!/(2!·2!·2!)
		t.Errorf("%d orders of three facts, each twice; want 90", runs)
	}
	// What faults before its time is delivered again.
	sagatest.RequireSameEnd(t, 6, []int64{1, 2}, sums(func(have, fact int64) (int64, error) {
		if fact == 2 && have == 0 {
			return 0, fault.Permanent("nothing is there to add 2 to")
		}
		return fact, nil
	}))
}

func TestRequireSameEnd_OrderThatMatters_IsNamed(t *testing.T) {
	t.Parallel()
	for want, spoil := range map[string]func(have, fact int64) (int64, error){
		"in the order [2 1 1 2] the end is 5, want 6": func(have, fact int64) (int64, error) {
			if have == 0 && fact == 2 {
				return 1, nil
			}
			return fact, nil
		},
		"are at fault, whatever comes before them": func(_, fact int64) (int64, error) {
			if fact == 2 {
				return 0, fault.Permanent("no twos")
			}
			return fact, nil
		},
		"connection lost": func(int64, int64) (int64, error) { return 0, fmt.Errorf("connection lost") },
	} {
		got := verdict(t, func(tb testing.TB) { sagatest.RequireSameEnd(tb, 6, []int64{1, 2}, sums(spoil)) })
		if !strings.Contains(got, want) {
			t.Errorf("the verdict is %q; want %q", got, want)
		}
	}
	got := verdict(t, func(tb testing.TB) {
		sagatest.RequireSameEnd(tb, 0, []int64{1}, func(int) sagatest.Run[int64, int64] {
			return sagatest.Run[int64, int64]{
				Tell: func(int64) ([]event.Numbered, error) { return event.Number(7, answered{ID: "a"}), nil },
				End:  func([]event.Numbered) int64 { return 0 },
			}
		})
	})
	if !strings.Contains(got, "event 1, test.answered.v1, has the number 7") {
		t.Errorf("the verdict on numbers is %q", got)
	}
}
