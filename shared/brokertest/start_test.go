package brokertest_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"pavane/internal/await"
	"pavane/shared/brokertest"
)

// metadata asks the broker at addr for one topic.
func metadata(t *testing.T, addr, topic string) kmsg.MetadataResponseTopic {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	want := kmsg.NewMetadataRequestTopic()
	want.Topic = &topic
	req.Topics = append(req.Topics, want)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Topics[0]
}

func TestTopic_TwoInOneTest_AreTwoWithTheWantedPartitions(t *testing.T) {
	t.Parallel()
	addr := brokertest.Start(t)
	one, two := brokertest.Topic(t, addr, 1), brokertest.Topic(t, addr, 6)
	if one == two {
		t.Fatalf("both are named %s", one)
	}
	for topic, want := range map[string]int{one: 1, two: 6} {
		if got := len(metadata(t, addr, topic).Partitions); got != want {
			t.Errorf("topic %s has %d partitions, want %d", topic, got, want)
		}
	}
}

func TestStart_TestEnds_BrokerOrTopicIsGone(t *testing.T) {
	t.Parallel()
	var addr, topic string
	t.Run("inner", func(t *testing.T) { //nolint:paralleltest // the outer test looks after it
		addr = brokertest.Start(t)
		topic = brokertest.Topic(t, addr, 1)
	})
	if os.Getenv("PAVANE_KAFKA") != "" {
		// A broker hears from its controller that a topic is deleted, after the answer.
		await.True(t, 30*time.Second, "the topic is gone", func() bool {
			return errors.Is(kerr.ErrorForCode(metadata(t, addr, topic).ErrorCode), kerr.UnknownTopicOrPartition)
		})
		return
	}
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		_ = conn.Close()
		t.Errorf("broker %s is still there", addr)
	}
}

func TestFake_FaultOnTopic_HitsOnlyThatTopic(t *testing.T) {
	t.Parallel()
	fake := brokertest.StartFake(t)
	bad, good := brokertest.Topic(t, fake.Addr(), 1), brokertest.Topic(t, fake.Addr(), 1)
	fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: bad, Err: kerr.TopicAuthorizationFailed, Count: -1})
	if code := metadata(t, fake.Addr(), bad).ErrorCode; code != kerr.TopicAuthorizationFailed.Code {
		t.Errorf("faulty topic answered %d", code)
	}
	if code := metadata(t, fake.Addr(), good).ErrorCode; code != 0 {
		t.Errorf("other topic answered %d", code)
	}
}
