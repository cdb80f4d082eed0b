package broker_test

import (
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
)

func batchFor(topic string, partition int32, p broker.Producer, sequence int32, after int64) *broker.Batch {
	var b broker.Batch
	b.Reset(topic, partition)
	b.Add(1_700_000_000_000, []byte("k"), []byte("v"), nil)
	b.After(after)
	b.Seal(p, sequence)
	return &b
}

func TestProduce_LogEndsBeforeWhatTheBatchFollows_IsAGapAndHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	addr := brokertest.Start(t)
	topic := brokertest.Topic(t, addr, 3)
	c := dial(t, broker.Config{Brokers: []string{addr}})
	p := producer(t, c)
	results := c.Produce(t.Context(), []*broker.Batch{batchFor(topic, 0, p, 0, 0), batchFor(topic, 1, p, 0, 3), batchFor(topic, 2, p, 0, 0)})
	for i, want := range []error{nil, broker.ErrSequenceGap, nil} {
		if !errors.Is(results[i].Err, want) {
			t.Errorf("partition %d: %v, want %v", i, results[i].Err, want)
		}
	}
	ranges, err := c.Offsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int64{1, 0, 1} {
		if got := ranges[topic][i].End; got != want {
			t.Errorf("the log of partition %d ends at %d, want %d", i, got, want)
		}
	}
}

// putting puts n batches one after the other, and returns what puts another one, that
// follows as many records as its sequence number says.
func putting(t *testing.T, c *broker.Client, topic string, p broker.Producer, n int32) (put func(sequence int32) error) {
	t.Helper()
	put = func(sequence int32) error {
		return c.Produce(t.Context(), []*broker.Batch{batchFor(topic, 0, p, sequence, int64(sequence))})[0].Err
	}
	for sequence := range n {
		if err := put(sequence); err != nil {
			t.Fatal(err)
		}
	}
	return put
}

// asked counts the ListOffsets requests of a connection, and breaks it before a
// Produce request when told so.
type asked struct {
	net.Conn
	count  atomic.Int64
	broken *atomic.Bool
}

func (a *asked) Write(b []byte) (int, error) {
	if len(b) >= 6 {
		switch key := binary.BigEndian.Uint16(b[4:]); {
		case key == 2:
			a.count.Add(1)
		case key == 0 && a.broken.Swap(false):
			_ = a.Close()
		}
	}
	return a.Conn.Write(b)
}

func TestProduce_SeveralBatchesThatFollow_AsksOncePerConnection(t *testing.T) {
	t.Parallel()
	addr := brokertest.Start(t)
	topic := brokertest.Topic(t, addr, 1)
	c := dial(t, broker.Config{Brokers: []string{addr}, Topics: []string{topic}})
	var broken atomic.Bool
	var mu sync.Mutex
	var all []*asked
	c.WrapConnections(func(conn net.Conn) net.Conn {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, &asked{Conn: conn, broken: &broken})
		return all[len(all)-1]
	})
	counts := func() (n []int64) {
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range all {
			if count := conn.count.Load(); count > 0 {
				n = append(n, count)
			}
		}
		return n
	}
	p := producer(t, c)
	put := putting(t, c, topic, p, 5)
	if n := counts(); !slices.Equal(n, []int64{1}) {
		t.Errorf("the end of the log was asked for %v times by connection, want once on one", n)
	}
	broken.Store(true)
	for put(5) != nil { // the connection that breaks, and those that come in its place
		if t.Context().Err() != nil {
			t.Fatal("no connection comes in its place")
		}
	}
	if n := counts(); len(n) < 2 || slices.Max(n) > 1 {
		t.Errorf("the end of the log was asked for %v times by connection, want once on each of two or more", n)
	}
}

// A topic that is made anew takes no connection with it.
func TestProduce_TopicWasMadeAnewBehindAFault_IsAGap(t *testing.T) {
	t.Parallel()
	addr := brokertest.Start(t)
	topic := brokertest.Topic(t, addr, 1)
	c := dial(t, broker.Config{Brokers: []string{addr}})
	p := producer(t, c)
	put := putting(t, c, topic, p, 2)
	if err := put(5); !errors.Is(err, broker.ErrSequenceGap) { // a fault as good as any
		t.Fatalf("a batch behind a hole: %v, want %v", err, broker.ErrSequenceGap)
	}
	brokertest.Empty(t, addr, topic, 1)
	var err error
	await.True(t, 30*time.Second, "the client knows the new topic", func() bool {
		err = put(2)
		return !errors.Is(err, broker.ErrUnavailable)
	})
	if !errors.Is(err, broker.ErrSequenceGap) {
		t.Errorf("a batch that follows what was in the topic before: %v, want %v", err, broker.ErrSequenceGap)
	}
}

// producer asks until the broker, which may just have started, gives an id.
func producer(t *testing.T, c *broker.Client) (p broker.Producer) {
	t.Helper()
	await.True(t, 30*time.Second, "the broker gives out producer ids", func() (ok bool) {
		var err error
		p, err = c.InitProducer(t.Context())
		return err == nil
	})
	return p
}
