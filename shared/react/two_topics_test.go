package react_test

import (
	"context"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/event"
	"pavane/shared/react"
)

// A member that sleeps in its transaction, and another one that meets the same
// event on the topic of a replay meanwhile: nothing of the key is there yet that
// could be locked.
func TestConsumer_FirstEventIsReadFromTwoTopicsAtOnce_IsAppliedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	both := func(c *react.ConsumerConfig) { c.Topics = []string{topic, "again"} }
	other := r.consumer(both, func(c *react.ConsumerConfig) { c.Metrics = prometheus.NewRegistry() })
	rec := r.record("a", 1, "")
	again := rec
	again.Topic = "again"
	asleep := true
	c := r.consumer(both, func(c *react.ConsumerConfig) {
		c.Reactions = []react.Reaction{react.On(func(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
			if asleep {
				asleep = false
				r.deliver(other, again)
			}
			return r.react(ctx, tx, e)
		}, told{})}
	})
	r.deliver(c, rec)
	r.requireDense("a", 1)
	requireEqual(t, "duplicates", r.metric("pavane_inbox_duplicates_total"), 1)
}
