package brokertest

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"pavane/shared/broker"
)

// hooked returns a fake broker and a client of it.
func hooked(t *testing.T) (*Fake, *broker.Client) {
	t.Helper()
	fake := StartFake(t)
	c, err := broker.Dial(broker.Config{Brokers: []string{fake.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return fake, c
}

// A single node answers alike whatever is asked for; with several, a change of
// leader would lose what fewer replicas have acknowledged.
func TestProduce_Acks_AreThoseOfAllInSyncReplicas(t *testing.T) {
	t.Parallel()
	fake, c := hooked(t)
	topic := Topic(t, fake.Addr(), 1)
	var acks atomic.Int32
	fake.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		acks.Store(int32(req.(*kmsg.ProduceRequest).Acks))
		return nil, nil, false
	})
	p, err := c.InitProducer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Produce(t.Context(), []*broker.Batch{batch(topic, 0, p, 0, 1)})[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
	if acks.Load() != -1 {
		t.Errorf("the request asks for acks %d, want -1", acks.Load())
	}
}

// Under an id below 0 every write works and nothing is recognised.
func TestInitProducer_BrokerAnswersWithoutAnID_IsRefused(t *testing.T) {
	t.Parallel()
	fake, c := hooked(t)
	fake.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ProducerID, resp.ProducerEpoch = -1, -1
		return resp, nil, true
	})
	if p, err := c.InitProducer(t.Context()); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("got %+v, %v; want ErrUnavailable", p, err)
	}
}

// All batches of a leader in one request would be more than a slow network carries
// within the time of a request, however often it is sent again, and with more than a
// hundred partitions more than Kafka takes.
func TestProduce_BatchesOfManyMegabytes_GoInSeveralRequests(t *testing.T) {
	t.Parallel()
	const partitions = 20
	fake, c := hooked(t)
	topic := Topic(t, fake.Addr(), partitions)
	var requests, most atomic.Int64
	fake.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		size := 0
		for _, p := range req.(*kmsg.ProduceRequest).Topics[0].Partitions {
			size += len(p.Records)
		}
		requests.Add(1)
		most.Store(max(most.Load(), int64(size)))
		return nil, nil, false
	})
	p, err := c.InitProducer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	batches := make([]*broker.Batch, partitions)
	for i := range batches {
		batches[i] = new(broker.Batch)
		batches[i].Reset(topic, int32(i))
		batches[i].Add(1, nil, make([]byte, 900<<10), nil)
		batches[i].Seal(p, 0)
	}
	for i, r := range c.Produce(t.Context(), batches) {
		if r.Err != nil {
			t.Errorf("partition %d: %v", i, r.Err)
		}
	}
	if requests.Load() != 3 || most.Load() > 8<<20 {
		t.Errorf("%d requests, the largest of %d bytes; want 3 of 8 MiB at most", requests.Load(), most.Load())
	}
}
