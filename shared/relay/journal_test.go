package relay

import (
	"errors"
	"math"
	"testing"

	"pavane/shared/broker"
	"pavane/shared/pgtest"
)

// A relay that finds no batch recognised because others have brought in more
// pieces than the broker remembers must not begin anew: all would come twice.
func TestRenew_AnotherRelayHasMovedTheChunk_DoesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	planned := &chunk{
		number: 1, prev: origin(), target: position{snapshot: "3:3:"}, upto: 10, rows: 10, last: true, producer: broker.Producer{ID: 7},
		first: map[string]int32{"t/0": 0}, counts: map[string]int{"t/0": 10},
	}
	var err error
	if planned.incarnation, err = incarnation(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if ok, err := planned.insert(t.Context(), db, &chunk{}, nil, 0); !ok || err != nil {
		t.Fatalf("plan: %t, %v", ok, err)
	}
	load := func() *chunk {
		t.Helper()
		c, err := loadHead(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	late, other := load(), load()
	if ok, err := other.step(t.Context(), db, "t/0", progress{Size: 5}); !ok || err != nil {
		t.Fatalf("step: %t, %v", ok, err)
	}
	if ok, err := late.renew(t.Context(), db, broker.Producer{ID: 7, Epoch: 1}, "t/0", nil); ok || err != nil {
		t.Errorf("the relay that knows less began a new epoch: %t, %v", ok, err)
	}
	// A key parked out of the rest of a chunk leaves the progress as it was.
	late = load()
	if ok, err := other.change(t.Context(), db, parkSQL, "t/0", progress{Size: 5}, 9, "key", "t", 10, "too large"); !ok || err != nil {
		t.Fatalf("park: %t, %v", ok, err)
	}
	if ok, err := late.renew(t.Context(), db, broker.Producer{ID: 7, Epoch: 1}, "t/0", nil); ok || err != nil {
		t.Errorf("the relay that knows of no parked key began a new epoch: %t, %v", ok, err)
	}
	other = load()
	if ok, err := other.renew(t.Context(), db, broker.Producer{ID: 7, Epoch: 1}, "t/0", nil); !ok || err != nil {
		t.Errorf("the relay that knows all cannot begin a new epoch: %t, %v", ok, err)
	}
	if got := load(); got.producer.Epoch != 1 || len(got.progress) != 0 {
		t.Errorf("the chunk is under epoch %d with progress %v, want 1 and none", got.producer.Epoch, got.progress)
	}
}

// What was in the log before the database was set back says nothing about a
// chunk of that number afterwards.
func TestAck_ServerHasANewIncarnation_WritesNothingAndSaysSo(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	life, err := incarnation(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	const another = "00000000-0000-0000-0000-000000000000"
	acks := func(want int) {
		t.Helper()
		var n int
		if err := db.Get(t.Context(), &n, `select count(*) from relay_ack`); err != nil || n != want {
			t.Errorf("%d acknowledgements, %v; want %d", n, err, want)
		}
	}
	c := &chunk{number: 7, target: origin()}
	if err := c.ack(t.Context(), db, another, nil, 0); !errors.Is(err, errOvertaken) {
		t.Fatalf("ack in another incarnation = %v, want errOvertaken", err)
	}
	// A relay must not go on from a chunk that the journal does not acknowledge.
	r := &Relay{cfg: Config{DB: db}, head: c, unacked: map[string]int64{"t/0": 1}, incarnation: another}
	if err := r.ackNow(t.Context()); err != nil || r.head != nil || r.unacked != nil {
		t.Fatalf("ackNow in another incarnation = %v; it holds on to the head: %t", err, r.head != nil)
	}
	next := &chunk{number: 8, prev: origin(), target: origin(), incarnation: another}
	if ok, err := next.insert(t.Context(), db, c, map[string]int64{"t/0": 1}, 0); ok || err != nil {
		t.Fatalf("plan of another incarnation: %t, %v", ok, err)
	}
	acks(0)
	for range 2 { // the second time it is there already
		if err := c.ack(t.Context(), db, life, nil, 0); err != nil {
			t.Fatal(err)
		}
		acks(1)
	}
}

func TestPlanned_BatchesOfTheLog(t *testing.T) {
	t.Parallel()
	us := broker.Producer{ID: 7, Epoch: 3}
	head := &chunk{
		number: 1, producer: us,
		first:  map[string]int32{"t/0": 10, "t/1": math.MaxInt32 - 1, "t/2": broker.NextSequence(0, -4)},
		counts: map[string]int{"t/0": 5, "t/1": 3, "t/2": 4},
	}
	for name, c := range map[string]struct {
		partition int32
		producer  broker.Producer
		sequence  int32
		n         int
		want      bool
	}{
		"long ago":                           {0, us, 0, 10, true},
		"the head":                           {0, us, 10, 5, true},
		"a piece of the head":                {0, us, 12, 2, true},
		"behind the head":                    {0, us, 15, 1, false},
		"from within the head on":            {0, us, 12, 4, false},
		"the head, across the last number":   {1, us, math.MaxInt32 - 1, 3, true},
		"behind it":                          {1, us, 1, 1, false},
		"before the last number":             {1, us, math.MaxInt32 - 9, 5, true},
		"first of an epoch":                  {2, us, 0, 1, false},
		"what a new epoch found in the log":  {2, us, math.MaxInt32 - 3, 4, true},
		"in a partition of which none knows": {3, us, 0, 1, false},
		"an epoch before":                    {0, broker.Producer{ID: 7, Epoch: 2}, 400, 1, true},
		"an epoch to come":                   {0, broker.Producer{ID: 7, Epoch: 4}, 0, 1, false},
		"another producer":                   {0, broker.Producer{ID: 8, Epoch: 3}, 400, 1, true},
		"no producer":                        {0, broker.Producer{ID: -1, Epoch: -1}, -1, 1, true},
		"a mark of a transaction":            {0, us, -1, 1, true},
	} {
		if got := head.planned("t", c.partition, broker.Written{Producer: c.producer, Sequence: c.sequence, Len: c.n}); got != c.want {
			t.Errorf("%s: planned %t, want %t", name, got, c.want)
		}
	}
	if !(&chunk{}).planned("t", 0, broker.Written{Sequence: 5, Len: 1}) {
		t.Error("a journal without a chunk knows of no producer, so nothing is of it")
	}
}
