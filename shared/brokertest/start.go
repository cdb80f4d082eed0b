// Package brokertest owns the broker that tests run on: one inside the test process that speaks the real Kafka
// protocol, or a real Kafka where PAVANE_KAFKA names one. It also holds the conformance suite that every
// broker must pass.
package brokertest

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"pavane/internal/await"
	"pavane/internal/devstack"
)

// serverEnv names the variable with the address of an existing Kafka, host:port[,host:port…].
const serverEnv = "PAVANE_KAFKA"

// patience bounds one administrative request.
const patience = 30 * time.Second

// Start returns the bootstrap address of a broker for this test: the Kafka that PAVANE_KAFKA names, which other
// tests use too (take topics from Topic and groups with random names), else one of its own that ends
// with the test.
func Start(t testing.TB) string {
	t.Helper()
	if addr := os.Getenv(serverEnv); addr != "" {
		return addr
	}
	return StartFake(t).Addr()
}

// Real returns the bootstrap address of the Kafka that PAVANE_KAFKA names. Without one it skips the test, which make test
// runs on a real Kafka, too.
func Real(t testing.TB) string {
	t.Helper()
	addr := os.Getenv(serverEnv)
	if addr == "" {
		t.Skip(serverEnv + " names no Kafka")
	}
	return addr
}

// Topic makes a topic with a fresh name and returns the name. On a shared Kafka it is deleted when the test ends.
func Topic(t testing.TB, addr string, partitions int) string {
	t.Helper()
	name := "t-" + strings.ToLower(rand.Text())
	create(t, addr, name, partitions)
	if os.Getenv(serverEnv) != "" {
		t.Cleanup(func() { remove(t, addr, name) })
	}
	await.True(t, patience, "topic "+name+" can be read and written", func() bool {
		_, all := records(addr, name, partitions)
		return all
	})
	return name
}

// Empty deletes a topic and makes it anew: the broker loses its records and what it
// knew of who wrote them.
func Empty(t testing.TB, addr, name string, partitions int) {
	t.Helper()
	remove(t, addr, name)
	create(t, addr, name, partitions)
	await.True(t, patience, "topic "+name+" is empty", func() bool {
		n, all := records(addr, name, partitions)
		return all && n == 0
	})
}

// Trim deletes the records that a topic holds, as retention does: its offsets go on.
func Trim(t testing.TB, addr, name string, partitions int) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = name
	for p := range partitions {
		partition := kmsg.NewDeleteRecordsRequestTopicPartition()
		partition.Partition, partition.Offset = int32(p), -1
		topic.Partitions = append(topic.Partitions, partition)
	}
	req.Topics, req.TimeoutMillis = append(req.Topics, topic), int32(patience.Milliseconds())
	resp, err := request[*kmsg.DeleteRecordsResponse](addr, req)
	if err != nil {
		t.Fatalf("delete the records of %s: %v", name, err)
	}
	for _, p := range resp.Topics[0].Partitions {
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			t.Fatalf("delete the records of %s/%d: %v", name, p.Partition, err)
		}
	}
}

func create(t testing.TB, addr, name string, partitions int) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, int32(partitions), 1
	req.Topics = append(req.Topics, topic)
	resp, err := request[*kmsg.CreateTopicsResponse](addr, req)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("create topic %s with %d partitions: %v", name, partitions, err)
	}
}

// records is how many records were ever written to a topic, and whether every
// partition answers: a real broker knows a topic before its partitions are there.
func records(addr, topic string, partitions int) (n int64, all bool) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	asked := kmsg.NewListOffsetsRequestTopic()
	asked.Topic = topic
	for p := range partitions {
		partition := kmsg.NewListOffsetsRequestTopicPartition()
		partition.Partition, partition.Timestamp = int32(p), -1
		asked.Partitions = append(asked.Partitions, partition)
	}
	req.Topics = append(req.Topics, asked)
	resp, err := request[*kmsg.ListOffsetsResponse](addr, req)
	if err != nil || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != partitions {
		return 0, false
	}
	for _, p := range resp.Topics[0].Partitions {
		if p.ErrorCode != 0 {
			return 0, false
		}
		n += p.Offset
	}
	return n, true
}

// remove deletes a topic.
func remove(t testing.TB, addr, name string) {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TopicNames = []string{name}
	topic := kmsg.NewDeleteTopicsRequestTopic()
	topic.Topic = kmsg.StringPtr(name)
	req.Topics = append(req.Topics, topic)
	if _, err := request[*kmsg.DeleteTopicsResponse](addr, req); err != nil {
		t.Errorf("delete topic %s: %v", name, err)
	}
}

// request asks the cluster at addr once, over connections of its own.
func request[R kmsg.Response](addr string, req kmsg.Request) (resp R, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(addr, ",")...))
	if err != nil {
		return resp, err
	}
	defer client.Close()
	raw, err := client.Request(ctx, req)
	if err != nil {
		return resp, err
	}
	return raw.(R), nil
}

// start is what Start and StartFake share.
func start(t testing.TB) *devstack.Broker {
	t.Helper()
	b, err := devstack.StartBroker(devstack.BrokerConfig{})
	if err != nil {
		t.Fatalf("start test broker: %v", err)
	}
	t.Cleanup(b.Close)
	return b
}
