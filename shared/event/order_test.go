package event_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pavane/shared/event"
)

func TestInOrder_AnyClocks_EachAfterItsCauseAndItsPredecessor(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "events")
		events := make([]event.Position, n)
		sequences := map[string]int64{}
		for i := range events {
			service := rapid.SampledFrom([]string{"order-svc", "payment-svc", "inventory-svc"}).Draw(t, "service")
			sequences[service]++
			e := event.Position{Service: service, ID: fmt.Sprint(i), Sequence: sequences[service]}
			e.CreatedAt = time.Unix(rapid.Int64Range(0, 5).Draw(t, "clock"), 0)
			if i > 0 {
				e.CausationID = fmt.Sprint(rapid.IntRange(0, i-1).Draw(t, "cause"))
			}
			events[i] = e
		}
		shuffled := rapid.Permutation(events).Draw(t, "order")
		got := event.InOrder(shuffled, func(p event.Position) event.Position { return p })
		if len(got) != n {
			t.Fatalf("%d events of %d", len(got), n)
		}
		seen, last := map[string]bool{"": true}, map[string]int64{}
		for _, e := range got {
			if !seen[e.CausationID] || e.Sequence != last[e.Service]+1 {
				t.Fatalf("event %s of %s comes before its cause %q or its predecessor", e.ID, e.Service, e.CausationID)
			}
			seen[e.ID], last[e.Service] = true, e.Sequence
		}
	})
}
