package react_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"pavane/internal/await"
	"pavane/internal/transcript"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/inbox"
	"pavane/shared/react"
)

const lateStarts = "pavane_inbox_late_starts_total"

// keeping has a consumer log into the transcript.
func keeping(b *transcript.Buffer) func(*react.ConsumerConfig) {
	return func(c *react.ConsumerConfig) { c.Logger = slog.New(slog.NewTextHandler(b, nil)) }
}

// requireParked wants one record to wait behind a gap.
func (r *rig) requireParked(key string, number int64) {
	r.t.Helper()
	parked := r.parked()
	if len(parked) != 1 || parked[0].Key != key || parked[0].Cause != inbox.Missing || parked[0].Sequence != number {
		r.t.Fatalf("parked: %+v; want #%d of %s behind a gap", parked, number, key)
	}
}

// awaitParked waits until a record is parked.
func (s *stage) awaitParked() {
	s.t.Helper()
	await.True(s.t, wait, "a parked record", func() bool { return len(s.parked()) > 0 })
}

func TestRun_LogHasLostItsFirstRecords_KeysBeginWithWhatIsLeftAndLaterGapsAreGaps(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.write(burst(12, 1, 3)...)
	brokertest.Trim(t, s.addr, s.topic, partitions)
	s.write(burst(12, 4, 5)...)
	var told transcript.Buffer
	first := s.run(t.Context(), s.with(keeping(&told), func(c *react.ConsumerConfig) { c.Metrics = s.reg }))
	s.awaitEffects(12 * 2)
	for k := range 12 {
		requireEqual(t, "effects", s.effects(fmt.Sprintf("key-%d", k)), []int64{4, 5})
	}
	// They are counted a moment after they are committed.
	await.True(t, wait, "each late start is counted", func() bool { return s.metric(lateStarts) == 12 })
	requireEqual(t, "partitions that are told of", strings.Count(told.String(), "the log has lost its first records"), partitions)
	first()

	// Another instance later on: what is known goes on, what was quiet all the time begins.
	s.run(t.Context(), s.with(keeping(&told)))
	s.write(burst(1, 3, 4)...) // old
	s.write(record(did{ID: "key-0", N: 7}, 7))
	s.awaitParked()
	s.requireParked("key-0", 7)
	s.write(record(did{ID: "quiet", N: 5000}, 5000))
	s.awaitEffects(12*2 + 1)
	requireEqual(t, "effects of the quiet key", s.effects("quiet"), []int64{5000})
	s.write(record(did{ID: "key-0", N: 6}, 6))
	s.awaitEffects(12*2 + 3)
	requireEqual(t, "effects", s.effects("key-0"), []int64{4, 5, 6, 7})
	requireEqual(t, "partitions that are told of", strings.Count(told.String(), "the log has lost its first records"), partitions)
}

func TestRun_LogBeginsWithItsFirstRecord_KeyInTheMidstIsAGap(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.write(record(did{ID: "key-0", N: 4}, 4))
	stop := s.run(t.Context(), s.with())
	s.awaitParked()
	stop()
	requireEqual(t, "effects", s.effects("key-0"), []int64{})
	s.requireParked("key-0", 4)
}

// Retention has overtaken it, and an operator has accepted the loss: it was there
// before, so what is missing is missing.
func TestRun_PartitionLostItsPlaceLater_UnmetKeyInTheMidstIsAGap(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.write(burst(12, 1, 1)...)
	stop := s.run(t.Context(), s.with())
	s.awaitEffects(12)
	stop()
	s.write(burst(12, 2, 3)...)
	brokertest.Trim(t, s.addr, s.topic, partitions)
	ranges, err := s.dial().Offsets(t.Context(), s.topic)
	if err != nil {
		t.Fatal(err)
	}
	for p, r := range ranges[s.topic] {
		if r.First == 0 {
			t.Fatalf("partition %d has lost nothing", p)
		}
		s.exec(`update inbox_offset set next_offset = $1 where partition = $2`, r.First, p)
	}
	s.write(record(did{ID: "unmet", N: 4}, 4))
	s.run(t.Context(), s.with())
	s.awaitParked()
	s.requireParked("unmet", 4)
}

func TestRun_StoredOffsetSetBackInAPartitionBegunLate_AppliesOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.write(burst(8, 1, 3)...)
	brokertest.Trim(t, s.addr, s.topic, partitions)
	s.write(burst(8, 4, 6)...)
	stop := s.run(t.Context(), s.with())
	s.awaitEffects(8 * 3)
	stop()
	s.exec(`update inbox_offset set next_offset = first_offset`)
	s.write(burst(8, 7, 7)...)
	s.run(t.Context(), s.with())
	s.awaitEffects(8 * 4)
	for k := range 8 {
		requireEqual(t, "effects", s.effects(fmt.Sprintf("key-%d", k)), []int64{4, 5, 6, 7})
	}
}

// late has partition 0 of topics begun at offset 100.
func (r *rig) late(topics ...string) {
	r.t.Helper()
	for _, name := range topics {
		r.exec(`insert into inbox_offset (topic, partition, next_offset, first_offset) values ($1, 0, 100, 100)`, name)
	}
	r.offset[0] = 100
}

// The start of a key is known from the moment on at which it is met, not only when
// it was applied.
func TestConsumer_LateStartCannotBeApplied_ItsKeyBeginsThereAllTheSame(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		r.late(topic)
		broken := true
		c := r.consumer(func(c *react.ConsumerConfig) {
			c.Reactions = []react.Reaction{on(r, func(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
				if broken && e.N == 7 {
					return nil, fault.Permanent("broken")
				}
				return r.react(ctx, tx, e)
			})}
		})
		r.deliver(c, r.record("a", 7, ""), r.record("a", 8, ""), r.record("b", 3, ""))
		requireEqual(t, "effects of another key", r.effects("b"), []int64{3})
		requireEqual(t, "cause", r.parked()[0].Cause, inbox.Fault)
		r.deliver(c, r.record("a", 6, "")) // old
		broken = false
		r.redrive("a", 1)
		r.deliver(c)
		requireEqual(t, "effects", r.effects("a"), []int64{7, 8})
		requireEqual(t, "parked", len(r.parked()), 0)
		requireEqual(t, "late starts", r.metric(lateStarts), 2)
	})
}

// Nothing counts of a transaction that fails.
func TestConsumer_LateStartIsRolledBack_IsCountedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.late(topic)
	failed := errors.New("once")
	c := r.consumer(func(c *react.ConsumerConfig) {
		c.MaxAttempts, c.Reactions = 1000, []react.Reaction{react.On(func(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
			if failed != nil {
				return nil, failed
			}
			return r.react(ctx, tx, e)
		}, told{})}
	})
	r.deliver(c, r.record("a", 7, ""), r.record("a", 8, ""))
	failed = nil
	r.settleUntil(c, func() bool { return len(r.effects("a")) == 2 })
	requireEqual(t, "effects", r.effects("a"), []int64{7, 8})
	requireEqual(t, "late starts", r.metric(lateStarts), 1)
}

// Where another topic that is read may bring what came before, a key waits for it.
func TestConsumer_LateTopicBesideAReplayOfIt_WaitsForWhatTheReplayBrings(t *testing.T) {
	t.Parallel()
	for name, sources := range map[string]map[string]string{
		"told": {topic: source, "again": source}, "not told": nil, "told of one": {topic: source},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.late(topic)
			c := r.consumer(func(c *react.ConsumerConfig) { c.Topics, c.Sources = []string{topic, "again"}, sources })
			r.deliver(c, r.record("a", 3, ""))
			requireEqual(t, "effects", r.effects("a"), []int64{})
			for n := range int64(2) {
				rec := record(did{ID: "a", N: n + 1}, n+1)
				rec.Topic, rec.Offset = "again", n
				r.deliver(c, rec)
			}
			r.requireDense("a", 3)
		})
	}
}

// The topics of several sources are judged each for itself, and so are the same keys
// of them.
func TestConsumer_SeveralSources_OnlyTheLatePartitionsKeysBeginInTheMidst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.late(topic)
	c := r.consumer(func(c *react.ConsumerConfig) {
		c.Topics, c.Sources = []string{topic, "others"}, map[string]string{topic: source, "others": "/other"}
	})
	other := record(did{ID: "a", N: 40}, 40)
	other.Topic = "others"
	for i, h := range other.Headers {
		if h.Key == "ce_source" {
			other.Headers[i].Value = []byte("/other")
		}
	}
	r.deliver(c, r.record("a", 4, ""), other)
	requireEqual(t, "effects", r.effects("a"), []int64{4})
	r.requireParked("a", 40)
}

// A record that was taken for none of its key may be its start, once that is mended.
func TestConsumer_LateKeysFirstRecordWasRefused_WaitsUntilItIsRedriven(t *testing.T) {
	t.Parallel()
	for _, batches := range []int{1, 2} {
		t.Run(fmt.Sprint(batches, " batches"), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.late(topic)
			strange := r.consumer(func(c *react.ConsumerConfig) { c.Sources, c.Metrics = map[string]string{topic: "/somebody-else"}, nil })
			c := r.consumer(func(c *react.ConsumerConfig) { c.Metrics = prometheus.NewRegistry() })
			r.deliver(strange, r.record("a", 5, ""), r.record("a", 6, ""))
			rest := []broker.Record{r.record("a", 7, ""), r.record("b", 2, "")}
			if batches == 2 {
				r.deliver(c, rest[0])
				rest = rest[1:]
			}
			r.deliver(c, rest...)
			requireEqual(t, "effects of another key", r.effects("b"), []int64{2})
			requireEqual(t, "effects", r.effects("a"), []int64{})
			if n, err := inbox.Redrive(t.Context(), r.db, inbox.ID{Source: topic, Key: "a"}, "ada", "the setting is right now"); n != 2 || err != nil {
				t.Fatalf("%d redriven, %v; want 2", n, err)
			}
			r.deliver(c)
			requireEqual(t, "effects", r.effects("a"), []int64{5, 6, 7})
		})
	}
}

// The one that was refused comes in the same batch, or behind the start.
func TestConsumer_LateKeyBesideARecordThatIsNoEvent_BeginsOnlyBeforeIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.late(topic)
	c := r.consumer()
	bad := func(key string) broker.Record {
		rec := r.record(key, 1, "")
		rec.Headers = nil
		return rec
	}
	r.deliver(c, bad("a"), r.record("a", 6, ""), r.record("b", 6, ""), bad("b"), r.record("b", 7, ""))
	requireEqual(t, "effects behind it", r.effects("a"), []int64{})
	requireEqual(t, "effects before it", r.effects("b"), []int64{6, 7})
}
