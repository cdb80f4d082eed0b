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
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

// A service runs Run beside its other work; Flush publishes what is committed
// now and returns.
func ExampleRelay_Flush() {
	t, end := pgtest.ForExample()
	defer end()
	ctx := context.Background()
	url, kafka := pgtest.URL(t), brokertest.Start(t)
	topic := brokertest.Topic(t, kafka, partitions)
	db := pgtest.Open(t, url)
	pgtest.Migrate(t, db, migrations.Kit())
	out, err := outbox.New(outbox.Config{Source: "/example", Topics: event.Topics{"fact": topic}})
	must(t, err)
	must(t, db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		return out.Append(ctx, tx, event.Number(1, fact{ID: "f-1", N: 1}, fact{ID: "f-1", N: 2})...)
	}))

	client, err := broker.Dial(broker.Config{Brokers: strings.Split(kafka, ","), Topics: []string{topic}})
	must(t, err)
	defer client.Close()
	pool, err := postgres.Open(relay.Pool(url))
	must(t, err)
	defer pool.Close()
	r, err := relay.New(relay.Config{DB: pool, Publisher: client, Partitions: partitions})
	must(t, err)
	for range 3 { // again changes nothing: the log holds each event once
		must(t, r.Flush(ctx))
	}

	at := broker.Position{Topic: topic, Partition: broker.Partition([]byte("f-1"), partitions)}
	fetched, err := client.Fetch(ctx, []broker.Position{at}, time.Second, 1<<20)
	must(t, err)
	for _, record := range fetched.Records {
		fmt.Printf("%d %s %s\n", record.Offset, record.Key, record.Value)
	}
	// Output:
	// 0 f-1 {"id":"f-1","n":1}
	// 1 f-1 {"id":"f-1","n":2}
}
