package outage_test

import (
	"context"
	"io/fs"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/internal/devstack"
	"pavane/migrations"
	"pavane/shared/broker"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

// patience bounds each wait. It is long: the machine may be busy, and what is late shows in the lines of the rounds.
const patience = 90 * time.Second

// pipeline is the kit's whole way on servers that the test may hurt.
type pipeline struct {
	t        *testing.T
	postgres *devstack.Postgres
	client   *broker.Client
	writer   *postgres.DB // of the writers and the relays
	reader   *postgres.DB // of the consumer
	load     *load
	relays   []*process
	consumer *process
}

// startPostgres starts a server that syncs, as one with data that matters does.
func startPostgres(t *testing.T) *devstack.Postgres {
	t.Helper()
	p, err := devstack.StartPostgres(t.Context(), devstack.PostgresConfig{})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		must(t, p.Stop(ctx))
	})
	return p
}

// startKafka starts nodes of a cluster.
func startKafka(t *testing.T, nodes int) []*devstack.Kafka {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cluster, err := devstack.StartKafkaCluster(ctx, devstack.KafkaConfig{}, nodes)
	must(t, err)
	t.Cleanup(func() {
		for _, k := range cluster {
			must(t, k.Stop(context.Background()))
		}
	})
	return cluster
}

// startPipeline starts it with two relay processes and one consumer process, and waits until an event has come through.
func startPipeline(t *testing.T, brokers []string, replicas int, pressure pressure) *pipeline {
	t.Helper()
	p := &pipeline{t: t, postgres: startPostgres(t)}
	p.writer = p.database("writer", `create table counter (key text primary key, version bigint not null)`)
	p.reader = p.database("reader", `create table effect (n bigint generated always as identity, key text, sequence bigint, token text);
create index on effect (token)`)
	client, err := broker.Dial(broker.Config{Brokers: brokers, Topics: []string{topic}})
	must(t, err)
	t.Cleanup(client.Close)
	p.client = client
	// Small segments, so that a log of some rounds has several.
	must(t, client.EnsureTopics(t.Context(), []broker.Topic{{
		Name: topic, Partitions: partitions, ReplicationFactor: replicas, Configs: map[string]string{"segment.bytes": "1048576"},
	}}))
	out, err := outbox.New(outbox.Config{Source: "/writer", Topics: topics()})
	must(t, err)
	p.load = &load{pressure: pressure, db: p.writer, out: out, books: map[string]written{}}
	for range 2 {
		p.relays = append(p.relays, startJob(t, job{Role: "relay", Database: p.postgres.URL("writer"), Brokers: brokers}))
	}
	p.consumer = startJob(t, job{Role: "consumer", Database: p.postgres.URL("reader"), Brokers: brokers})
	for _, proc := range append(p.relays, p.consumer) {
		proc.awaitServing(t)
	}
	p.load.start()
	p.awaitEffect()
	return p
}

func (p *pipeline) database(name, tables string) *postgres.DB {
	p.t.Helper()
	must(p.t, p.postgres.CreateDatabase(p.t.Context(), name))
	db := pgtest.Open(p.t, p.postgres.URL(name))
	pgtest.Migrate(p.t, db, kit())
	_, err := db.SQL().ExecContext(p.t.Context(), tables)
	must(p.t, err)
	return db
}

func kit() fs.FS { return migrations.Kit() }

// rush is how long the writers go on while the effect of what they wrote is waited for. They write at a rate, and on a
// machine that cannot keep up with it the backlog would grow from crash to crash.
const rush = 5 * time.Second

// awaitEffect waits until something that is committed from now on has had its effect, and returns how long that took.
func (p *pipeline) awaitEffect() time.Duration {
	p.t.Helper()
	begin, before, token, held := time.Now(), p.load.newest(), "", false
	defer func() {
		if held {
			p.load.turn.Unlock()
		}
	}()
	await.True(p.t, patience, "a write is committed and its effect is there", func() bool {
		if token == "" {
			if now := p.load.newest(); now != before {
				token = now
			}
		}
		if token != "" && !held && time.Since(begin) > rush {
			p.load.turn.Lock()
			held = true
		}
		var n int
		return token != "" && p.reader.Get(p.t.Context(), &n, `select count(*) from effect where token = $1`, token) == nil && n > 0
	})
	return time.Since(begin).Round(10 * time.Millisecond)
}

// awaitQuiet stops the writers and waits until all they wrote is published and applied.
func (p *pipeline) awaitQuiet() time.Duration {
	p.t.Helper()
	p.load.stop()
	return p.awaitWhole()
}

// awaitWhole waits, with nobody writing, until log and effects hold what the outbox holds.
func (p *pipeline) awaitWhole() time.Duration {
	p.t.Helper()
	begin := time.Now()
	var rows, records, effects int64
	defer func() {
		if p.t.Failed() {
			p.t.Logf("outbox %d rows, log %d records, %d effects", rows, records, effects)
			p.compareBooks(p.outbox()) // what is wrong there explains the rest
		}
	}()
	await.True(p.t, patience, "log and effects hold what the outbox holds", func() bool {
		if p.writer.Get(p.t.Context(), &rows, `select count(*) from outbox`) != nil ||
			p.reader.Get(p.t.Context(), &effects, `select count(*) from effect`) != nil {
			return false
		}
		ranges, err := p.client.Offsets(p.t.Context(), topic)
		if err != nil {
			return false
		}
		records = 0
		for _, r := range ranges[topic] {
			records += r.End - r.First
		}
		return records >= rows && effects >= rows
	})
	return time.Since(begin).Round(10 * time.Millisecond)
}

// healed counts what the relays say they put back.
func (p *pipeline) healed() (n float64) {
	p.t.Helper()
	for _, r := range p.relays {
		n += r.metric(p.t, "pavane_relay_healed_total")
	}
	return n
}
