package brokertest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"pavane/shared/broker"
)

// threeBrokers starts a cluster with a topic of six partitions, two led by each broker.
func threeBrokers(t *testing.T) (*kfake.Cluster, *broker.Client) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(6, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	for p := range int32(6) {
		if err := cluster.MoveTopicPartition("t", p, p%3); err != nil {
			t.Fatal(err)
		}
	}
	c, err := broker.Dial(broker.Config{Brokers: cluster.ListenAddrs(), Topics: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return cluster, c
}

func TestProduce_LeadersDiffer_EachBatchReachesItsOwn(t *testing.T) {
	t.Parallel()
	cluster, c := threeBrokers(t)
	p, err := c.InitProducer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for round := range int32(3) {
		batches := make([]*broker.Batch, 6)
		for i := range batches {
			batches[i] = batch("t", int32(i), p, round, 1)
		}
		results := c.Produce(t.Context(), batches)
		for began := time.Now(); results[0].Err != nil && time.Since(began) < 10*time.Second; {
			results = c.Produce(t.Context(), batches) // a leader has moved: the same batches again
		}
		for i, r := range results {
			if r.Err != nil || r.Offset != int64(round) {
				t.Fatalf("round %d, partition %d: got %+v; want offset %d", round, i, r, round)
			}
		}
		if err := cluster.MoveTopicPartition("t", 0, (round+1)%3); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFetch_OneLeaderBusyOthersQuiet_KeepsOneLongPollEach(t *testing.T) {
	t.Parallel()
	cluster, c := threeBrokers(t)
	var mu sync.Mutex
	asked := map[string]int{}
	cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		for _, topic := range req.(*kmsg.FetchRequest).Topics {
			for _, p := range topic.Partitions {
				asked[fmt.Sprint(p.Partition)]++
			}
		}
		return nil, nil, false
	})
	p, err := c.InitProducer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := make([]broker.Position, 6)
	for i := range at {
		at[i] = broker.Position{Topic: "t", Partition: int32(i)}
	}
	const rounds = 30
	for round := range int32(rounds) {
		if r := c.Produce(t.Context(), []*broker.Batch{batch("t", 1, p, round, 1)})[0]; r.Err != nil {
			t.Fatal(r.Err)
		}
		began := time.Now()
		f, err := c.Fetch(t.Context(), at, 20*time.Second, 1<<20)
		if err != nil || len(f.Records) != 1 || f.Records[0].Offset != int64(round) || f.Records[0].Partition != 1 {
			t.Fatalf("round %d: got %+v, %v; want one record", round, f.Records, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Fatalf("round %d took %s: it waited for the quiet leaders", round, took)
		}
		at = f.Next
	}
	mu.Lock()
	defer mu.Unlock()
	if asked["0"] > 3 || asked["2"] > 3 || asked["1"] < rounds {
		t.Errorf("fetches by partition: %v; want %d of the busy leader and one or two of each quiet one", asked, rounds)
	}
}
