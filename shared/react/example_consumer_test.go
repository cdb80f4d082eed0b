package react_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/react"
)

// The same record lies in the log twice, and is handled once.
func ExampleConsumer_Run() {
	t, end := pgtest.ForExample()
	defer end()
	addr := brokertest.Start(t)
	topic := brokertest.Topic(t, addr, 1)
	client, err := broker.Dial(broker.Config{Brokers: strings.Split(addr, ",")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	publish(client, topic, "d-1", "d-1", "d-2")

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	db := pgtest.WithKit(t)
	out, err := outbox.New(outbox.Config{Source: "/example", Topics: event.Topics{"told": topic}})
	if err != nil {
		fmt.Println(err)
		return
	}
	consumer, err := react.NewConsumer(react.ConsumerConfig{
		Service: topic + "-svc", DB: db, Outbox: out, Source: client, Topics: []string{topic}, Partitions: 1,
		Reactions: []react.Reaction{react.On(func(_ context.Context, _ *sqlx.Tx, e did) ([]event.Numbered, error) {
			fmt.Println("handled", e.ID)
			if e.ID == "d-2" {
				stop()
			}
			return nil, nil
		})},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(consumer.Run(ctx))
	// Output:
	// handled d-1
	// handled d-2
	// <nil>
}

// publish writes the first event of each key, as a relay would.
func publish(client *broker.Client, topic string, keys ...string) {
	ctx := context.Background()
	producer, err := client.InitProducer(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	var batch broker.Batch
	batch.Reset(topic, 0)
	for _, key := range keys {
		e := event.Envelope{ID: event.NewID(), Source: "/depot-svc", Kind: did{}.Kind(), Key: key, Sequence: 1, Data: fmt.Appendf(nil, `{"id":%q}`, key)}
		batch.Add(time.Now().UnixMilli(), []byte(key), e.Data, event.AppendHeaders(nil, e.Headers()))
	}
	batch.Seal(producer, 0)
	for _, result := range client.Produce(ctx, []*broker.Batch{&batch}) {
		if result.Err != nil {
			fmt.Println(result.Err)
		}
	}
}
