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
