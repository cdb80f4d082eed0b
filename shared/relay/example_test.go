package relay_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/migrations"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/migrate"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

// A whole process that writes events and publishes them: package service does the
// same for a service that also reads.
func ExampleRelay_Run() {
	t, end := pgtest.ForExample()
	defer end()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	url, kafka := pgtest.URL(t), brokertest.Start(t)
	topic := brokertest.Topic(t, kafka, partitions)
	db, err := postgres.Open(postgres.Config{URL: url})
	must(t, err)
	defer db.Close()
	must(t, migrate.Up(ctx, db.SQL(), migrations.Kit(), "goose_kit"))
	out, err := outbox.New(outbox.Config{Source: "/example", Topics: event.Topics{"fact": topic}})
	must(t, err)

	client, err := broker.Dial(broker.Config{Brokers: strings.Split(kafka, ","), Topics: []string{topic}})
	must(t, err)
	defer client.Close()
	pool, err := postgres.Open(relay.Pool(url))
	must(t, err)
	defer pool.Close()
	r, err := relay.New(relay.Config{DB: pool, Publisher: client, Partitions: partitions, Wake: out.Wake()})
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()

	must(t, db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		return out.Append(ctx, tx, event.Number(1, fact{ID: "f-1", N: 1}, fact{ID: "f-1", N: 2})...)
	}))
	at := broker.Position{Topic: topic, Partition: broker.Partition([]byte("f-1"), partitions)}
	for at.Offset < 2 {
		fetched, err := client.Fetch(ctx, []broker.Position{at}, time.Second, 1<<20)
		must(t, err)
		for _, record := range fetched.Records {
			fmt.Printf("%d %s %s\n", record.Offset, record.Key, record.Value)
			at.Offset = record.Offset + 1
		}
	}
	stop()
	must(t, <-ended)
	// Output:
	// 0 f-1 {"id":"f-1","n":1}
	// 1 f-1 {"id":"f-1","n":2}
}
