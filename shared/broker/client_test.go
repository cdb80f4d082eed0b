package broker_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pavane/internal/leaks"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
)

func dial(t testing.TB, config broker.Config) *broker.Client {
	t.Helper()
	c, err := broker.Dial(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func one(topic string, p broker.Producer, sequence int32) []*broker.Batch {
	var b broker.Batch
	b.Reset(topic, 0)
	b.Add(1_700_000_000_000, []byte("k"), fmt.Append(nil, sequence), nil)
	b.Seal(p, sequence)
	return []*broker.Batch{&b}
}

// deaf passes requests on and, while told so, keeps the answers to Produce
// requests from the client: the connection breaks instead.
type deaf struct {
	net.Conn
	drop  *atomic.Bool
	armed atomic.Bool
}

func (d *deaf) Write(b []byte) (int, error) {
	if len(b) >= 6 && binary.BigEndian.Uint16(b[4:]) == 0 && d.drop.Swap(false) {
		d.armed.Store(true)
	}
	return d.Conn.Write(b)
}

func (d *deaf) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	if d.armed.Load() {
		_ = d.Close()
		return 0, errors.New("connection lost")
	}
	return n, err
}

func TestProduce_AnswerLost_ResendIsRecognised(t *testing.T) {
	t.Parallel()
	addr := brokertest.Start(t)
	topic := brokertest.Topic(t, addr, 1)
	c := dial(t, broker.Config{Brokers: []string{addr}})
	var drop atomic.Bool
	c.WrapConnections(func(conn net.Conn) net.Conn { return &deaf{Conn: conn, drop: &drop} })
	p, err := c.InitProducer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.EnsureTopics(t.Context(), []broker.Topic{{Name: topic, Partitions: 1}}); err != nil {
		t.Fatal(err)
	}
	for sequence := range int32(5) {
		drop.Store(true)
		if r := c.Produce(t.Context(), one(topic, p, sequence))[0]; !errors.Is(r.Err, broker.ErrUnavailable) {
			t.Fatalf("lost answer: got %+v; want ErrUnavailable", r)
		}
		if r := c.Produce(t.Context(), one(topic, p, sequence))[0]; r.Err != nil || r.Offset != int64(sequence) {
			t.Fatalf("sent again: got %+v; want offset %d", r, sequence)
		}
	}
	if all, err := c.Offsets(t.Context(), topic); err != nil || all[topic][0].End != 5 {
		t.Fatalf("log: got %v, %v; want 5 records", all, err)
	}
}

// stuck is a connection on which a large write hangs until its deadline is
// moved to the past; then it still looks at the bytes.
type stuck struct {
	net.Conn
	once sync.Once
	past chan struct{}
	sum  *atomic.Int64
}

func (s *stuck) SetDeadline(at time.Time) error {
	if !at.IsZero() && at.Before(time.Now()) {
		s.once.Do(func() { close(s.past) })
	}
	return s.Conn.SetDeadline(at)
}

func (s *stuck) Write(b []byte) (int, error) {
	if len(b) < 100_000 {
		return s.Conn.Write(b)
	}
	<-s.past
	for _, x := range b {
		s.sum.Add(int64(x) + 1)
	}
	return 0, os.ErrDeadlineExceeded
}

// It is the race detector that fails this test.
func TestProduce_CancelledWhileWriting_NoLongerUsesTheBatch(t *testing.T) {
	t.Parallel()
	addr := brokertest.Start(t)
	topic := brokertest.Topic(t, addr, 1)
	c := dial(t, broker.Config{Brokers: []string{addr}})
	var sum atomic.Int64
	c.WrapConnections(func(conn net.Conn) net.Conn { return &stuck{Conn: conn, past: make(chan struct{}), sum: &sum} })
	if err := c.EnsureTopics(t.Context(), []broker.Topic{{Name: topic, Partitions: 1}}); err != nil {
		t.Fatal(err)
	}
	var b broker.Batch
	b.Reset(topic, 0)
	b.Add(1, nil, make([]byte, 1<<20), nil)
	b.Seal(broker.Producer{ID: 1}, 0)
	r := c.Produce(withTimeout(t, 300*time.Millisecond), []*broker.Batch{&b})[0]
	b.Reset(topic, 0)
	b.Add(1, nil, make([]byte, 1<<20), nil)
	if !errors.Is(r.Err, broker.ErrUnavailable) || sum.Load() == 0 {
		t.Errorf("got %v, sum %d; want ErrUnavailable and a write that was cut off", r.Err, sum.Load())
	}
}

// hole accepts connections and never answers.
func hole(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
	}()
	return l.Addr().String()
}

func TestClient_BrokerSilentOrGone_IsErrUnavailableInTime(t *testing.T) {
	t.Parallel()
	for name, addr := range map[string]string{"silent": hole(t), "gone": "127.0.0.1:1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, broker.Config{Brokers: []string{addr}, Timeout: 300 * time.Millisecond})
			began := time.Now()
			_, init := c.InitProducer(t.Context())
			_, fetch := c.Fetch(t.Context(), []broker.Position{{Topic: "t"}}, time.Millisecond, 1)
			_, id := c.ClusterID(t.Context())
			topics := []broker.Topic{{Name: "t", Partitions: 1}}
			for i, err := range []error{
				init, fetch, id, c.Produce(t.Context(), one("t", broker.Producer{}, 0))[0].Err, c.EnsureTopics(t.Context(), topics), c.CheckTopics(t.Context(), topics),
			} {
				if !errors.Is(err, broker.ErrUnavailable) {
					t.Errorf("call %d: got %v; want ErrUnavailable", i, err)
				}
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("six calls with a timeout of 0.3 s took %s", took)
			}
		})
	}
}

func TestClient_Closed_FailsAndLeavesNothingRunning(t *testing.T) {
	for _, addr := range []string{brokertest.Start(t), hole(t)} {
		before := goleak.IgnoreCurrent()
		c := dial(t, broker.Config{Brokers: []string{addr}})
		waiting := make(chan error, 2)
		go func() {
			_, err := c.Fetch(t.Context(), []broker.Position{{Topic: "t"}}, 5*time.Second, 1)
			waiting <- err
		}()
		go func() {
			waiting <- c.Group(t.Context(), broker.GroupConfig{ID: "g", Topics: []string{"t"}}, func(context.Context, *broker.Assignment) error { return nil })
		}()
		_, _ = c.InitProducer(withTimeout(t, 200*time.Millisecond))
		c.Close()
		for range 2 {
			<-waiting
		}
		if _, err := c.InitProducer(t.Context()); !errors.Is(err, broker.ErrUnavailable) {
			t.Errorf("after Close: got %v; want ErrUnavailable", err)
		}
		if r := c.Produce(t.Context(), one("t", broker.Producer{}, 0))[0]; !errors.Is(r.Err, broker.ErrUnavailable) {
			t.Errorf("after Close: got %v; want ErrUnavailable", r.Err)
		}
		leaks.None(t, before)
	}
}

func withTimeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestDial_WrongConfig_IsRefused(t *testing.T) {
	t.Parallel()
	for _, config := range []broker.Config{{}, {Brokers: []string{"kafka"}}, {Brokers: []string{"kafka:9092"}, Mechanism: "GSSAPI"}} {
		if c, err := broker.Dial(config); err == nil {
			c.Close()
			t.Errorf("%+v was taken", config)
		}
	}
}

// BenchmarkProduce writes records of the demo's size to eight partitions,
// 10,000 in one request; on one core it should stay above 300,000 records/s.
func BenchmarkProduce(b *testing.B) {
	addr := brokertest.Start(b)
	topic := brokertest.Topic(b, addr, 8)
	c := dial(b, broker.Config{Brokers: []string{addr}})
	p, err := c.InitProducer(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if err := c.EnsureTopics(b.Context(), []broker.Topic{{Name: topic, Partitions: 8}}); err != nil {
		b.Fatal(err)
	}
	e := event.Envelope{
		ID: "01932d3c-8a5e-7cc3-9f0a-0123456789ab", Source: "/order-svc", Kind: "order.placed.v1", Key: "01932d3c-8a5e-7cc3-9f0a-0123456789ab", Sequence: 1,
		CorrelationID: "01932d3c-8a5e-7cc3-9f0a-0123456789ab", Data: make([]byte, 200),
	}
	headers, key := event.AppendHeaders(nil, e.Headers()), []byte(e.Key)
	batches := make([]*broker.Batch, 8)
	for i := range batches {
		batches[i] = new(broker.Batch)
	}
	sequence := int32(0)
	const perBatch = 1250
	b.ResetTimer()
	for n := 0; n < b.N; n += 8 * perBatch {
		for i, x := range batches {
			x.Reset(topic, int32(i))
			for range perBatch {
				x.Add(1_700_000_000_000, key, e.Data, headers)
			}
			x.Seal(p, sequence)
		}
		sequence = broker.NextSequence(sequence, perBatch)
		for _, r := range c.Produce(b.Context(), batches) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
