package react_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"pavane/shared/broker"
	"pavane/shared/react"
)

// TestConsumer_AnyOrderOfDelivery_AppliesEachOnceInOrder: whatever is repeated,
// reordered, delivered again from an old offset or interrupted by a restart,
// once every record came at least once each key has its effects 1 … n.
func TestConsumer_AnyOrderOfDelivery_AppliesEachOnceInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		keys := rapid.IntRange(1, 3).Draw(rt, "keys")
		lengths := make(map[string]int64, keys)
		var once []broker.Record
		for k := range keys {
			key := fmt.Sprintf("%d-%d", round, k)
			lengths[key] = int64(rapid.IntRange(1, 6).Draw(rt, "length"))
			for n := range lengths[key] {
				once = append(once, record(did{ID: key, N: n + 1}, n+1))
			}
		}
		deliveries := rapid.Permutation(once).Draw(rt, "order")
		for _, again := range rapid.SliceOfN(rapid.IntRange(0, len(once)-1), 0, 10).Draw(rt, "again") {
			at := rapid.IntRange(0, len(deliveries)).Draw(rt, "at")
			deliveries = append(deliveries[:at:at], append([]broker.Record{once[again]}, deliveries[at:]...)...)
		}
		for i := range deliveries {
			deliveries[i].Offset = r.offset[0]
			r.offset[0]++
		}
		c := r.restarted(rapid.IntRange(1, 5).Draw(rt, "batch"))
		for done := 0; done < len(deliveries); {
			n := rapid.IntRange(1, len(deliveries)-done).Draw(rt, "fetch")
			from := max(0, done-rapid.IntRange(0, 3).Draw(rt, "back"))
			r.deliver(c, deliveries[from:done+n]...)
			done += n
			if rapid.Bool().Draw(rt, "restart") {
				c = r.restarted(rapid.IntRange(1, 5).Draw(rt, "batch"))
			}
		}
		for key, n := range lengths {
			r.requireDense(key, n)
		}
		requireEqual(t, "parked", len(r.parked()), 0)
	})
}

func (r *rig) restarted(batch int) *react.Consumer {
	return r.consumer(func(c *react.ConsumerConfig) { c.Metrics, c.BatchSize = nil, batch })
}
