package relay_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/migrations"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const partitions = 4

// fact is an event of the tests.
type fact struct {
	ID string `json:"id"`
	N  int    `json:"n"`
}

func (fact) Kind() string  { return "fact.told.v1" }
func (f fact) Key() string { return f.ID }

// bench is one outbox, one topic, and whatever relays a test starts on them.
type bench struct {
	t      *testing.T
	url    string
	db     *postgres.DB
	pool   *postgres.DB // the relays' own
	client *broker.Client
	topic  string
	out    *outbox.Outbox
}

func setup(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	addr := brokertest.Start(t)
	return setupOn(t, addr, brokertest.Topic(t, addr, partitions))
}

func setupOn(t *testing.T, addr, topic string) *bench {
	t.Helper()
	return setupAt(t, addr, topic, pgtest.URL(t))
}

func setupAt(t *testing.T, addr, topic, url string) *bench {
	t.Helper()
	ctx := t.Context()
	b := &bench{t: t, url: url, db: pgtest.Open(t, url), topic: topic}
	pgtest.Migrate(t, b.db, migrations.Kit())
	pool, err := postgres.Open(relay.Pool(url))
	must(t, err)
	t.Cleanup(func() { pool.Close() })
	b.pool = pool
	b.exec(`create table counter (key text primary key, version bigint not null)`)
	client, err := broker.Dial(broker.Config{Brokers: strings.Split(addr, ","), Topics: []string{b.topic}})
	must(t, err)
	t.Cleanup(client.Close)
	b.client = client
	// A real Kafka that has just started has no producer ids yet; a relay waits,
	// but a test that lets it die at a point must reach that point.
	await.True(t, 30*time.Second, "Kafka gives out producer ids", func() bool {
		_, err := client.InitProducer(ctx)
		return err == nil
	})
	b.out, err = outbox.New(outbox.Config{Source: "/test", Topics: event.Topics{"fact": b.topic}})
	must(t, err)
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) exec(sql string, args ...any) {
	b.t.Helper()
	must(b.t, b.db.InTx(b.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, sql, args...)
		return err
	}))
}

// relay returns a new relay on the outbox, as another process would run it.
func (b *bench) relay(publisher relay.Publisher, change ...func(*relay.Config)) *relay.Relay {
	b.t.Helper()
	if publisher == nil {
		publisher = b.client
	}
	cfg := relay.Config{DB: b.pool, Publisher: publisher, Partitions: partitions, Wake: b.out.Wake(), Overdue: 50 * time.Millisecond}
	for _, f := range change {
		f(&cfg)
	}
	r, err := relay.New(cfg)
	must(b.t, err)
	return r
}

// start runs a relay until stop is called or the test ends.
func (b *bench) start(r *relay.Relay) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("relay: %v", err)
		}
	})
	b.t.Cleanup(stop)
	return stop
}

// append writes the next n facts of key within tx; the version's row lock makes
// their numbers dense.
func (b *bench) append(ctx context.Context, tx *sqlx.Tx, key string, n int) error {
	var version int64
	err := tx.GetContext(ctx, &version, `insert into counter (key, version) values ($1, $2)
on conflict (key) do update set version = counter.version + $2 returning version`, key, n)
	if err != nil {
		return err
	}
	events := make([]event.Event, n)
	for i := range events {
		events[i] = fact{ID: key, N: i}
	}
	return b.out.Append(ctx, tx, event.Number(version-int64(n)+1, events...)...)
}

func (b *bench) write(key string, n int) {
	b.t.Helper()
	must(b.t, b.db.InTx(b.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return b.append(ctx, tx, key, n) }))
}

// begin opens a transaction that the test ends itself.
func (b *bench) begin() *sqlx.Tx {
	b.t.Helper()
	tx, err := sqlx.NewDb(b.db.SQL(), "postgres").BeginTxx(b.t.Context(), nil)
	must(b.t, err)
	return tx
}

// log reads the whole topic.
func (b *bench) log() []broker.Record {
	b.t.Helper()
	ranges, err := b.client.Offsets(b.t.Context(), b.topic)
	must(b.t, err)
	var records []broker.Record
	for p, r := range ranges[b.topic] {
		at := broker.Position{Topic: b.topic, Partition: int32(p), Offset: r.First}
		for at.Offset < r.End {
			got, err := b.client.Fetch(b.t.Context(), []broker.Position{at}, time.Second, 8<<20)
			must(b.t, err)
			for _, rec := range got.Records {
				records = append(records, rec)
				at.Offset = rec.Offset + 1
			}
		}
	}
	return records
}

func (b *bench) rows() (n int) {
	b.t.Helper()
	must(b.t, b.db.SQL().QueryRowContext(b.t.Context(), `select count(*) from outbox`).Scan(&n))
	return n
}

// await waits until the log holds n records.
func (b *bench) await(n int) (records []broker.Record) {
	b.t.Helper()
	await.True(b.t, 30*time.Second, fmt.Sprintf("the log holds %d records", n), func() bool {
		records = b.log()
		return len(records) >= n
	})
	return records
}

// requireExact demands that the log holds each committed row once, dense and in
// order per key, each key in one partition.
func (b *bench) requireExact() {
	b.t.Helper()
	want := b.rows()
	records := b.await(want)
	if len(records) != want {
		b.t.Errorf("the log holds %d records, the outbox %d rows", len(records), want)
	}
	last, where := map[string]int64{}, map[string]int32{}
	for _, rec := range records {
		e, err := event.Decode(rec.Key, rec.Headers, rec.Value)
		must(b.t, err)
		if e.Sequence != last[e.Key]+1 {
			b.t.Errorf("key %s: sequence %d after %d", e.Key, e.Sequence, last[e.Key])
		}
		last[e.Key] = e.Sequence
		if p, ok := where[e.Key]; ok && p != rec.Partition {
			b.t.Errorf("key %s is in partitions %d and %d", e.Key, p, rec.Partition)
		}
		where[e.Key] = rec.Partition
	}
}
