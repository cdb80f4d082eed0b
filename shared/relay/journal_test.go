package relay

import (
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
	if ok, err := late.renew(t.Context(), db, "t/0", nil); ok || err != nil {
		t.Errorf("the relay that knows less began a new epoch: %t, %v", ok, err)
	}
	// A key parked out of the rest of a chunk leaves the progress as it was.
	late = load()
	if ok, err := other.change(t.Context(), db, parkSQL, "t/0", progress{Size: 5}, 9, "key", "t", 10, "too large"); !ok || err != nil {
		t.Fatalf("park: %t, %v", ok, err)
	}
	if ok, err := late.renew(t.Context(), db, "t/0", nil); ok || err != nil {
		t.Errorf("the relay that knows of no parked key began a new epoch: %t, %v", ok, err)
	}
	other = load()
	if ok, err := other.renew(t.Context(), db, "t/0", nil); !ok || err != nil {
		t.Errorf("the relay that knows all cannot begin a new epoch: %t, %v", ok, err)
	}
	if got := load(); got.producer.Epoch != 1 || len(got.progress) != 0 {
		t.Errorf("the chunk is under epoch %d with progress %v, want 1 and none", got.producer.Epoch, got.progress)
	}
}
