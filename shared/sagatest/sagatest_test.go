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
