package relay_test

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pavane/internal/await"
	"pavane/internal/devstack"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/relay"
)

// emptyBroker starts a broker that knows nothing but the topic.
func emptyBroker(t *testing.T, topic string, port int) *devstack.Broker {
	t.Helper()
	b, err := devstack.StartBroker(devstack.BrokerConfig{Port: port, Topics: map[string]int{topic: partitions}})
	must(t, err)
	t.Cleanup(b.Close)
	return b
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	must(t, err)
	n, err := strconv.Atoi(port)
	must(t, err)
	return n
}

// again waits until the log ends where it should, over what connections the
// test itself had to the old broker.
func (b *bench) again() {
	b.t.Helper()
	await.True(b.t, 30*time.Second, "the log is whole again", func() bool {
		ranges, err := b.client.Offsets(b.t.Context(), b.topic)
		found := int64(0)
		for _, r := range ranges[b.topic] {
			found += r.End
		}
		return err == nil && found >= int64(b.rows())
	})
	b.requireExact()
}

// setupReal is setup on a real Kafka alone, whose address it returns: the embedded
// broker knows one epoch of a producer for all partitions, and forgets no producer
// with a topic.
func setupReal(t *testing.T) (b *bench, addr string) {
	t.Helper()
	t.Parallel()
	addr = brokertest.Real(t)
	return setupOn(t, addr, brokertest.Topic(t, addr, partitions)), addr
}

// A broker that lost all it had of a producer takes any sequence number from it:
// the numbers alone would leave what is lost out for good.
func TestRelay_BrokerComesBackEmpty_NextRowsBringTheLostOnesAlong(t *testing.T) {
	t.Parallel()
	const topic = "lost"
	server := emptyBroker(t, topic, 0)
	b := setupOn(t, server.Addr(), topic)
	for range 5 {
		b.write("a", 3)
		b.write("b", 2)
		must(t, b.relay(nil).Flush(t.Context()))
	}
	b.requireExact()
	server.Close()
	port := portOf(t, server.Addr())
	if again := emptyBroker(t, topic, port); again.Addr() != server.Addr() {
		t.Fatalf("the broker came back at %s instead of %s", again.Addr(), server.Addr())
	}
	b.write("a", 1)
	b.write("b", 1)
	b.start(b.relay(nil))
	b.again()
}

// Under a new epoch a partition goes on where it was: what was in the log by then
// bears the numbers of the epoch before, and so it must come back.
func TestHeal_LostMoreThanCameInTheNewEpoch_BringsThatUnderTheOldOne(t *testing.T) {
	b, addr := setupReal(t)
	for n := range 3 {
		b.write("c", 3)
		if n == 1 {
			b.write("a", 2) // in another partition
			b.forget("a")
		}
		must(t, b.relay(nil).Flush(t.Context()))
	}
	b.requireExact()
	brokertest.Empty(t, addr, b.topic, partitions)
	b.rename(addr, b.topic) // on new connections
	b.write("a", 1)
	b.write("c", 1)
	b.start(b.relay(nil))
	b.again()
}

// unasked has no connection look where the log ends, as one does not that has looked
// before and met no fault.
type unasked struct{ relay.Publisher }

func (u unasked) Produce(ctx context.Context, batches []*broker.Batch) []broker.Result {
	for _, b := range batches {
		b.After(0)
	}
	return u.Publisher.Produce(ctx, batches)
}

// Where no fault tells that the topic was another one for a while, the broker takes
// the next rows: they cannot be taken back, but it is said.
func TestRelay_TopicIsMadeAnewWithoutAFault_SaysThatTheLogWasEmptied(t *testing.T) {
	b, addr := setupReal(t)
	var said bytes.Buffer
	r := b.relay(unasked{b.client}, func(c *relay.Config) { c.Logger = slog.New(slog.NewTextHandler(&said, nil)) })
	for range 2 {
		b.write("a", 3)
		must(t, r.Flush(t.Context()))
		if strings.Contains(said.String(), "emptied") {
			t.Fatalf("the relay says %q of a whole log", &said)
		}
	}
	brokertest.Empty(t, addr, b.topic, partitions)
	b.write("a", 1)
	must(t, r.Flush(t.Context()))
	if !strings.Contains(said.String(), "emptied") {
		t.Errorf("the relay says %q, want that the log was emptied", &said)
	}
}

// What is lost is noticed without a next row, too.
func TestRelay_BrokerComesBackEmptyAndNothingIsWritten_IsHealedAndCounted(t *testing.T) {
	t.Parallel()
	const topic = "lost"
	server := emptyBroker(t, topic, 0)
	b := setupOn(t, server.Addr(), topic)
	metrics := prometheus.NewRegistry()
	b.start(b.relay(nil, func(c *relay.Config) { c.ChunkRows, c.Metrics = 7, metrics }))
	for range 20 {
		b.write("a", 3)
		b.write("b", 2)
	}
	b.requireExact()
	server.Close()
	emptyBroker(t, topic, portOf(t, server.Addr()))
	b.again()
	// The log is whole a moment before the relay has heard so.
	await.True(t, 30*time.Second, "the relay has counted what it healed", func() bool {
		return counted(t, metrics, "pavane_relay_healed_total") > 0
	})
}

func counted(t *testing.T, metrics *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := metrics.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// crossing answers as a broker does while another relay puts records back: the
// log grows, and every batch is one that it does not remember. After some
// answers all is in the log.
type crossing struct {
	relay.Publisher
	answers atomic.Int64
}

func (c *crossing) Produce(ctx context.Context, batches []*broker.Batch) []broker.Result {
	if c.answers.Add(-1) < 0 {
		return c.Publisher.Produce(ctx, batches)
	}
	results := make([]broker.Result, len(batches))
	for i := range results {
		results[i] = broker.Result{Offset: -1, Err: broker.ErrSequenceGap}
	}
	return results
}

func (c *crossing) Offsets(ctx context.Context, topics ...string) (map[string][]broker.Range, error) {
	ranges, err := c.Publisher.Offsets(ctx, topics...)
	for _, of := range ranges {
		for i := range of {
			of[i].End += 1000 - c.answers.Add(-1)
		}
	}
	return ranges, err
}

// Batches knows of none: its log has an end, but nothing in it.
func (c *crossing) Batches(context.Context, broker.Position, int) ([]broker.Written, int64, error) {
	return nil, math.MaxInt64, nil
}

func TestHeal_AnotherRelayPutsBackAtOnce_BeginsNoNewEpoch(t *testing.T) {
	b := setup(t)
	for range 3 {
		b.write("a", 1)
		must(t, b.relay(nil).Flush(t.Context()))
	}
	b.write("a", 1)
	metrics := prometheus.NewRegistry()
	publisher := &crossing{Publisher: b.client}
	publisher.answers.Store(40)
	b.start(b.relay(publisher, func(c *relay.Config) { c.Metrics = metrics }))
	b.requireExact()
	if n := counted(t, metrics, "pavane_relay_epochs_total"); n != 0 {
		t.Errorf("%v new epochs; the other relay's records would now be refused", n)
	}
}
