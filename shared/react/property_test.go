package react_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pavane/shared/broker"
	"pavane/shared/react"
)

// TestConsumer_AnyOrderOfDelivery_AppliesEachOnceInOrder: whatever is repeated,
// reordered, delivered again from an old offset or interrupted by a restart,
// whether reactions take one event or many, and however their kinds are mixed,
// once every record came at least once each key has its effects 1 … n.
func TestConsumer_AnyOrderOfDelivery_AppliesEachOnceInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	round := 0
	var log bytes.Buffer
	rapid.Check(t, func(rt *rapid.T) {
		round++
		keys := rapid.IntRange(1, 3).Draw(rt, "keys")
		lengths := make(map[string]int64, keys)
		var once []broker.Record
		for k := range keys {
			key := fmt.Sprintf("%d-%d", round, k)
			lengths[key] = int64(rapid.IntRange(1, 6).Draw(rt, "length"))
			for n := range lengths[key] {
				e := did{ID: key, N: n + 1}
				once = append(once, rapid.SampledFrom([]broker.Record{record(e, n+1), record(newer{e}, n+1)}).Draw(rt, "kind"))
			}
		}
		deliveries := slices.Clone(once)
		if rapid.Bool().Draw(rt, "shuffled") {
			deliveries = rapid.Permutation(once).Draw(rt, "order")
		}
		for _, again := range rapid.SliceOfN(rapid.IntRange(0, len(once)-1), 0, 10).Draw(rt, "again") {
			at := rapid.IntRange(0, len(deliveries)).Draw(rt, "at")
			deliveries = append(deliveries[:at:at], append([]broker.Record{once[again]}, deliveries[at:]...)...)
		}
		for i := range deliveries {
			deliveries[i].Offset = r.offset[0]
			r.offset[0]++
		}
		c := r.drawn(rt, &log)
		for done := 0; done < len(deliveries); {
			n := rapid.IntRange(1, len(deliveries)-done).Draw(rt, "fetch")
			from := max(0, done-rapid.IntRange(0, 3).Draw(rt, "back"))
			r.deliver(c, deliveries[from:done+n]...)
			done += n
			if rapid.Bool().Draw(rt, "restart") {
				c = r.drawn(rt, &log)
			}
		}
		for key, n := range lengths {
			r.requireDense(key, n)
		}
		requireEqual(t, "parked", len(r.parked()), 0)
		// The outbox refuses events out of order; in parts they would pass it.
		requireEqual(t, "batches tried in parts", strings.Count(log.String(), "batch failed"), 0)
	})
}

// drawn returns a consumer that handles each kind one way or the other.
func (r *rig) drawn(rt *rapid.T, log io.Writer) *react.Consumer {
	return r.consumer(func(c *react.ConsumerConfig) {
		c.Logger, c.Metrics = slog.New(slog.NewTextHandler(log, nil)), nil
		c.BatchSize, c.Reactions = rapid.IntRange(1, 12).Draw(rt, "batch"), nil
		r.many = rapid.Bool().Draw(rt, "many")
		c.Reactions = append(c.Reactions, r.reaction())
		r.many = rapid.Bool().Draw(rt, "many newer")
		c.Reactions = append(c.Reactions, on(r, r.reactNewer))
	})
}
