package broker_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/pgtest"
)

func ExamplePartition() {
	fmt.Println(broker.Partition([]byte("o-1"), 6), broker.Partition([]byte("o-2"), 6))
	// Output: 0 3
}

// A batch that is sent again, because its answer was lost, is recognised.
func ExampleClient_Produce() {
	t, end := pgtest.ForExample()
	defer end()
	addr := brokertest.Start(t)
	topic := brokertest.Topic(t, addr, 1)
	client, err := broker.Dial(broker.Config{Brokers: strings.Split(addr, ","), Topics: []string{topic}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	ctx := context.Background()
	producer, err := client.InitProducer(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	var batch broker.Batch
	batch.Reset(topic, 0)
	batch.Add(time.Now().UnixMilli(), []byte("o-1"), []byte("first"), event.AppendHeaders(nil, nil))
	batch.Add(time.Now().UnixMilli(), []byte("o-1"), []byte("second"), event.AppendHeaders(nil, nil))
	batch.Seal(producer, 0)
	for range 2 {
		for _, result := range client.Produce(ctx, []*broker.Batch{&batch}) {
			fmt.Println("offset", result.Offset, result.Err)
		}
	}

	fetched, err := client.Fetch(ctx, []broker.Position{{Topic: topic}}, time.Second, 1<<20)
	for _, r := range fetched.Records {
		fmt.Printf("%d %s\n", r.Offset, r.Value)
	}
	fmt.Println("read on at", fetched.Next[0].Offset, err)
	// Output:
	// offset 0 <nil>
	// offset 0 <nil>
	// 0 first
	// 1 second
	// read on at 2 <nil>
}

func ExampleClient_CheckTopics() {
	t, end := pgtest.ForExample()
	defer end()
	addr := brokertest.Start(t)
	topic := broker.Topic{Name: brokertest.Topic(t, addr, 6), Partitions: 6}
	client, err := broker.Dial(broker.Config{Brokers: strings.Split(addr, ",")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	ctx := context.Background()
	fmt.Println(client.EnsureTopics(ctx, []broker.Topic{topic})) // it is there already
	fmt.Println(client.CheckTopics(ctx, []broker.Topic{topic}))
	topic.Partitions = 12
	fmt.Println(client.CheckTopics(ctx, []broker.Topic{topic}) != nil)
	// Output:
	// <nil>
	// <nil>
	// true
}

func ExampleClient_Group() {
	t, end := pgtest.ForExample()
	defer end()
	addr := brokertest.Start(t)
	topic := brokertest.Topic(t, addr, 3)
	client, err := broker.Dial(broker.Config{Brokers: strings.Split(addr, ",")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	ctx, leave := context.WithCancel(context.Background())
	err = client.Group(ctx, broker.GroupConfig{ID: topic + "-readers", Topics: []string{topic}}, func(ctx context.Context, a *broker.Assignment) error {
		fmt.Println("partitions", a.Partitions[topic])
		leave()
		<-ctx.Done() // the generation ends: stop reading at once
		return nil
	})
	fmt.Println(err)
	// Output:
	// partitions [0 1 2]
	// <nil>
}
