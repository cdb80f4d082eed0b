package inbox_test

import (
	"context"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"pgregory.net/rapid"

	"pavane/shared/fault"
	"pavane/shared/inbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestPlace_TellsDuplicateNextAndGap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		last, seq int64
		want      inbox.Place
	}{
		{0, 1, inbox.Next},
		{0, 2, inbox.Gap},
		{1, 1, inbox.Duplicate},
		{5, 1, inbox.Duplicate},
		{5, 6, inbox.Next},
		{5, 7, inbox.Gap},
		{5, math.MaxInt64, inbox.Gap},
		{math.MaxInt64, math.MaxInt64, inbox.Duplicate},
	} {
		if got := (inbox.State{Last: c.last}).Place(c.seq); got != c.want {
			t.Errorf("number %d after %d: %d, want %d", c.seq, c.last, got, c.want)
		}
	}
}

func TestValid_IsWhatTheTablesHold(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	number := int64(0) // the same id may be drawn again
	rapid.Check(t, func(rt *rapid.T) {
		number++
		id := inbox.ID{
			Source: rapid.OneOf(rapid.String(), rapid.Just("/order-svc")).Draw(rt, "source"),
			Key:    string(rapid.SliceOfN(rapid.Byte(), 0, 2100).Draw(rt, "key")),
		}
		if rapid.Bool().Draw(rt, "long") {
			id.Key = strings.Repeat(rapid.StringMatching(`[a-z]{3}`).Draw(rt, "word"), rapid.IntRange(600, 700).Draw(rt, "times"))
		}
		if !id.Valid() {
			return
		}
		in(t, db, func(ctx context.Context, tx *sqlx.Tx) error {
			return inbox.Save(ctx, tx, nil, map[inbox.ID]int64{id: number})
		})
	})
}

func TestPark_HoldsAnyBytes(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	offset := int64(0)
	rapid.Check(t, func(rt *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 0, 3000)
		offset++
		p := inbox.Parked{
			ID:    inbox.ID{Source: string(raw.Draw(rt, "source")), Key: string(raw.Draw(rt, "key"))},
			Topic: "t", Offset: offset, Kind: string(raw.Draw(rt, "kind")), Reason: string(raw.Draw(rt, "reason")),
			Cause: inbox.Undecodable, Payload: raw.Draw(rt, "payload"),
		}
		in(t, db, func(ctx context.Context, tx *sqlx.Tx) error { return inbox.Park(ctx, tx, []inbox.Parked{p}) })
	})
}

// A record that was put off while the database's clock was an hour ahead.
func TestRunnable_ClockHasGoneBack_RetryIsDueAllTheSame(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	in(t, db, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, `insert into parked (source, key, sequence, topic, partition, record_offset, type, headers, payload, reason, cause, retry_at)
select '/s', n::text, 1, 't', 0, n, 'k.v1', '', '', '', 'retry', clock_timestamp() + n * interval '2 seconds' from unnest(array[1, 1800]) n`); err != nil {
			return err
		}
		due, err := inbox.Runnable(ctx, tx, []inbox.Offset{{Topic: "t"}}, nil, 10)
		if len(due) != 1 || due[0].Key != "1800" {
			t.Errorf("due: %+v, want the one that lies further off than any pause is long, and only that", due)
		}
		return err
	})
}

func TestBegin_Again_KeepsWhereItBegan(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	for i, next := range []int64{70, 90} {
		in(t, db, func(ctx context.Context, tx *sqlx.Tx) error {
			stored, begun, err := inbox.Begin(ctx, tx, []inbox.Offset{{Topic: "t", Next: next}})
			if err == nil && (len(stored) != 1 || stored[0] != (inbox.Offset{Topic: "t", Next: 70, First: 70}) || len(begun) != 1-i) {
				t.Errorf("begun at %d: stored %+v, made %+v; want 70, made the first time alone", next, stored, begun)
			}
			return err
		})
	}
}

func TestSave_NeverGoesBack(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	id, at := inbox.ID{Source: "/s", Key: "k"}, inbox.Offset{Topic: "t", Partition: 1, Next: 7}
	in(t, db, func(ctx context.Context, tx *sqlx.Tx) error {
		_, _, err := inbox.Begin(ctx, tx, []inbox.Offset{at})
		return err
	})
	save := func(n int64, last map[inbox.ID]int64) error {
		at.Next = n
		return db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return inbox.Save(ctx, tx, []inbox.Offset{at}, last) })
	}
	if err := errors.Join(save(9, map[inbox.ID]int64{id: 9}), save(3, nil)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{3, 9} { // somebody else has applied them
		if err := save(11, map[inbox.ID]int64{id: n}); fault.ClassOf(err) != fault.ClassUnavailable {
			t.Errorf("number %d after 9: %v; want unavailable", n, err)
		}
	}
	in(t, db, func(ctx context.Context, tx *sqlx.Tx) error {
		offsets, _, err := inbox.Begin(ctx, tx, []inbox.Offset{at})
		if err != nil {
			return err
		}
		states, err := inbox.Load(ctx, tx, []inbox.ID{{Source: "/s", Key: "unknown"}, id})
		if err != nil {
			return err
		}
		if offsets[0].Next != 9 || states[0].Last != 0 || states[1].Last != 9 {
			t.Errorf("offset %d, last numbers %d and %d; want 9, 0 and 9", offsets[0].Next, states[0].Last, states[1].Last)
		}
		return nil
	})
}

// wait parks records of the key k of /s by number, as one pass would.
func wait(t *testing.T, db *postgres.DB, numbers ...int64) {
	t.Helper()
	var records []inbox.Parked
	for i, n := range numbers {
		cause := inbox.Missing
		if i > 0 {
			cause = inbox.Follows
		}
		records = append(records, inbox.Parked{
			ID: inbox.ID{Source: "/s", Key: "k"}, Sequence: n, Topic: "t", Offset: n, Kind: "k.v1", Cause: cause,
		})
	}
	in(t, db, func(ctx context.Context, tx *sqlx.Tx) error { return inbox.Park(ctx, tx, records) })
}

func count(t *testing.T, db *postgres.DB, query string) (n int) {
	t.Helper()
	if err := db.Get(t.Context(), &n, query); err != nil {
		t.Fatal(err)
	}
	return n
}

// A record that is due is no forged one, even when the operator saw a gap: the
// missing one may have come meanwhile.
func TestDisown_MissingRecordCameMeanwhile_ItStays(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	wait(t, db, 1, 1<<40)
	n, err := inbox.Disown(t.Context(), db, inbox.ID{Source: "/s", Key: "k"}, "ada", "forged")
	if left := count(t, db, `select count(*) from parked where sequence = 1`); n != 1 || err != nil || left != 1 {
		t.Errorf("%d disowned, %v, %d of the record that is due; want 1 of each", n, err, left)
	}
}

// What changes nothing is no move of an operator.
func TestDiscard_OfWhatWasAppliedBefore_IsNotLogged(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	id := inbox.ID{Source: "/s", Key: "k"}
	in(t, db, func(ctx context.Context, tx *sqlx.Tx) error {
		return inbox.Save(ctx, tx, nil, map[inbox.ID]int64{id: 3})
	})
	wait(t, db, 5)
	n, err := inbox.Discard(t.Context(), db, id, 3, "ada", "to see")
	if lines := count(t, db, `select count(*) from parked_log`); n != 0 || err != nil || lines != 0 {
		t.Errorf("%d records, %v, %d lines in the log; want none", n, err, lines)
	}
}

// Two transactions on one key take turns, whatever partitions they come by.
func TestLoad_LocksTheStates(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	id := inbox.ID{Source: "/s", Key: "k"}
	in(t, db, func(ctx context.Context, tx *sqlx.Tx) error {
		return inbox.Save(ctx, tx, nil, map[inbox.ID]int64{id: 3})
	})
	in(t, db, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := inbox.Load(ctx, tx, []inbox.ID{id}); err != nil {
			return err
		}
		if _, err := db.SQL().ExecContext(ctx, `select 1 from inbox where key = 'k' for update nowait`); err == nil {
			t.Error("another transaction could lock the key that was loaded")
		}
		return nil
	})
}

func in(t *testing.T, db *postgres.DB, f func(ctx context.Context, tx *sqlx.Tx) error) {
	t.Helper()
	if err := db.InTx(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}
