package react_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/inbox"
	"pavane/shared/react"
)

const wait = time.Minute

// newer is version 2 of did.
type newer struct{ did }

func (newer) Kind() string { return "test.did.v2" }

func (r *rig) reactNewer(ctx context.Context, tx *sqlx.Tx, e newer) ([]event.Numbered, error) {
	return r.react(ctx, tx, e.did)
}

// failing fails the first n calls that are asked to fail "sometimes".
func failing(r *rig, calls *int, n int) react.Handler[did] {
	return func(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
		if e.Do == "sometimes" {
			if *calls++; *calls <= n {
				return nil, errors.New("not yet")
			}
		}
		return r.react(ctx, tx, e)
	}
}

func (r *rig) redrive(key string, want int) {
	r.t.Helper()
	n, err := inbox.Redrive(r.t.Context(), r.db, inbox.ID{Source: source, Key: key}, "test", "to see")
	if err != nil {
		r.t.Fatal(err)
	}
	requireEqual(r.t, "redriven records", n, want)
}

func reKeyed(rec broker.Record, key string) broker.Record {
	rec.Key = []byte(key)
	for i, h := range rec.Headers {
		if h.Key == "ce_subject" {
			rec.Headers[i].Value = rec.Key
		}
	}
	return rec
}

func TestRedrive_AfterTheHandlerIsMended_AppliesAllInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	broken := true
	c := r.consumer(func(c *react.ConsumerConfig) {
		c.Reactions = []react.Reaction{react.On(func(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
			if broken && e.N == 2 {
				return nil, fault.Permanent("broken")
			}
			return r.react(ctx, tx, e)
		}, told{})}
	})
	r.deliver(c, r.record("a", 1, ""), r.record("a", 2, ""), r.record("a", 3, ""))
	r.redrive("a", 1)
	r.deliver(c)
	requireEqual(t, "cause when it fails again", r.parked()[0].Cause, inbox.Fault)
	requireEqual(t, "effects", r.effects("a"), []int64{1})
	broken = false
	r.deliver(c, r.record("a", 4, ""))
	requireEqual(t, "effects without a redrive", r.effects("a"), []int64{1})
	r.redrive("a", 1)
	r.deliver(c)
	r.requireDense("a", 4)
	requireEqual(t, "log", selected[string](r, `select action || ' ' || key || ' ' || sequence || ' ' || who || ' ' || why from parked_log`),
		[]string{"redrive a 2 test to see", "redrive a 2 test to see"})
}

func TestRedrive_MissingPredecessor_KeepsWaiting(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.consumer()
	r.deliver(c, r.record("a", 2, ""), r.record("a", 3, ""))
	r.redrive("a", 0)
	r.deliver(c)
	requireEqual(t, "effects", r.effects("a"), []int64{})
	requireEqual(t, "records that wait", r.parked()[0].Records, 2)
}

func TestRedrive_UndecodableRecordThatIsStillSo_StaysParked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.consumer()
	rec := r.record("a", 1, "")
	rec.Headers = nil
	r.deliver(c, rec)
	n, err := inbox.Redrive(t.Context(), r.db, inbox.ID{Source: topic, Key: "a"}, "test", "to see")
	if err != nil || n != 1 {
		t.Fatalf("redrive: %d, %v; want 1", n, err)
	}
	r.deliver(c)
	requireEqual(t, "cause", r.parked()[0].Cause, inbox.Undecodable)
}

func TestDiscard_GivesUpRecordsAndLetsFollowersGo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.consumer()
	id := inbox.ID{Source: source, Key: "a"}
	r.deliver(c, r.record("a", 1, ""), r.record("a", 2, "permanent"), r.record("a", 3, ""))
	if _, err := inbox.Discard(t.Context(), r.db, id, 4, "test", "to see"); fault.ClassOf(err) != fault.ClassInvalid {
		t.Fatalf("discard above the parked records: %v; want an invalid fault", err)
	}
	if _, err := inbox.Discard(t.Context(), r.db, id, 2, "test", "to see"); err != nil {
		t.Fatal(err)
	}
	r.deliver(c)
	requireEqual(t, "effects", r.effects("a"), []int64{1, 3})
	// A gap whose record never comes is given up the same way.
	r.deliver(c, r.record("a", 6, ""))
	if _, err := inbox.Discard(t.Context(), r.db, id, 5, "test", "to see"); err != nil {
		t.Fatal(err)
	}
	r.deliver(c)
	requireEqual(t, "effects", r.effects("a"), []int64{1, 3, 6})
	if _, err := inbox.Discard(t.Context(), r.db, id, 6, "test", "to see"); fault.ClassOf(err) != fault.ClassNotFound {
		t.Fatalf("discard of a key that is not parked: %v; want not found", err)
	}
	requireEqual(t, "log", selected[int64](r, `select upto_seq from parked_log where action = 'discard' order by id`), []int64{2, 5})
}

// Records that could not be decoded have no order among themselves: one that still
// cannot be holds up none that can.
func TestRedrive_UndecodableBesideWhatIsMended_HoldsUpNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	strange := r.consumer(func(c *react.ConsumerConfig) { c.Sources = map[string]string{topic: "/somebody-else"} })
	bad := r.record("a", 1, "")
	bad.Headers = nil
	r.deliver(strange, bad, r.record("a", 1, ""))
	requireEqual(t, "effects", r.effects("a"), []int64{})
	id := inbox.ID{Source: topic, Key: "a"}
	redrive := func() {
		t.Helper()
		if n, err := inbox.Redrive(t.Context(), r.db, id, "ada", "the setting is right now"); n == 0 || err != nil {
			t.Fatalf("%d redriven, %v", n, err)
		}
	}
	discard := func(want int) {
		t.Helper()
		if n, err := inbox.Discard(t.Context(), r.db, id, 0, "ada", "to see"); n != want || err != nil {
			t.Fatalf("%d discarded, %v; want %d", n, err, want)
		}
	}
	redrive()
	discard(0) // what was let go is not given up
	c := r.guarded(func(c *react.ConsumerConfig) { c.Metrics = nil })
	r.deliver(c)
	r.requireDense("a", 1)
	if parked := r.parked(); len(parked) != 1 || parked[0].Cause != inbox.Undecodable || parked[0].Records != 1 {
		t.Fatalf("parked: %+v; want the one that is no event", parked)
	}
	redrive() // once more, for nothing
	r.deliver(c)
	discard(1)
	requireEqual(t, "parked", len(r.parked()), 0)
}

// Records without a number are of one id wherever they came from: by its key, or
// for want of one.
func TestRedrive_UndecodableInAnotherPartition_HoldsUpNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	two := func(c *react.ConsumerConfig) { c.Partitions, c.Metrics = 2, nil }
	strange := r.consumer(two, func(c *react.ConsumerConfig) { c.Sources = map[string]string{topic: "/somebody-else"} })
	bad, good := r.record("a", 1, ""), r.record("a", 1, "")
	bad.Headers, bad.Partition = nil, 1 // and the lower offset
	r.deliver(strange, good, bad)
	for range 2 { // the second time for nothing
		if _, err := inbox.Redrive(t.Context(), r.db, inbox.ID{Source: topic, Key: "a"}, "ada", "the setting is right now"); err != nil {
			t.Fatal(err)
		}
		r.deliver(r.guarded(two))
		r.requireDense("a", 1)
		if parked := r.parked(); len(parked) != 1 || parked[0].Cause != inbox.Undecodable || parked[0].Records != 1 {
			t.Fatalf("parked: %+v; want the one that is no event", parked)
		}
	}
}
