package relay

import (
	"context"
	"log/slog"
	"reflect"
	"testing"

	"pavane/shared/broker"
)

// refusing is a broker that refuses every batch.
type refusing struct{ Publisher }

func (refusing) Produce(_ context.Context, batches []*broker.Batch) []broker.Result {
	results := make([]broker.Result, len(batches))
	for i := range results {
		results[i] = broker.Result{Offset: -1, Err: broker.ErrRefused}
	}
	return results
}

// Two batches are refused in one answer. About the first, this relay learns that
// another one has begun with both; what that one noted of the second must stand, or
// what it has in the log would go out again, cut otherwise.
func TestCut_AnotherRelayIsFurtherInTwoPartitions_TakesNothingBack(t *testing.T) {
	t.Parallel()
	r := planned(t)
	r.cfg.Publisher, r.cfg.Logger = refusing{}, slog.New(slog.DiscardHandler)
	db := r.cfg.DB
	if _, err := db.SQL().Exec(`update relay_journal set counts = '{"t/0": 10, "t/1": 17}'`); err != nil {
		t.Fatal(err)
	}
	if err := r.stillOurs(t.Context()); err != nil {
		t.Fatal(err)
	}
	other, err := loadHead(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]progress{"t/0": {Size: 5}, "t/1": {Sizes: []int{4}, Offset: 9, Size: 4}}
	for tp, p := range want {
		if ok, err := other.step(t.Context(), db, tp, p); !ok || err != nil {
			t.Fatalf("step of %s: %t, %v", tp, ok, err)
		}
	}
	batches := []*broker.Batch{new(broker.Batch), new(broker.Batch)}
	for i, b := range batches {
		b.Reset("t", int32(i)) // #nosec G115 -- 0 and 1
	}
	if _, err := r.sendOnce(t.Context(), batches, map[string]int64{}); err != nil {
		t.Fatal(err)
	}
	now, err := loadHead(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]map[string]progress{"the journal": now.progress, "the relay": r.head.progress} {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s has %v, want %v", name, got, want)
		}
	}
}
