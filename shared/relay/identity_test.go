package relay_test

import (
	"context"
	"sync"
	"testing"

	"pavane/internal/devstack"
	"pavane/shared/brokertest"
	"pavane/shared/postgres"
)

// A crash of Postgres takes back transaction numbers whose WAL was not written
// yet, and gives them out again: what was seen before says nothing about them.
func TestRelay_PostgresCrashesBetweenLookAndPlan_ReusedTransactionNumbersAreNotSkipped(t *testing.T) {
	t.Parallel()
	// The WAL of what is rolled back stays in memory, as long as it fills no page.
	server, err := devstack.StartPostgres(t.Context(), devstack.PostgresConfig{Settings: map[string]string{"wal_writer_delay": "10s"}})
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop(context.Background())) })
	must(t, server.CreateDatabase(t.Context(), "crashing"))
	addr := brokertest.Start(t)
	b := setupAt(t, addr, brokertest.Topic(t, addr, partitions), server.URL("crashing"))
	const numbers = 40
	var before, after string
	late := &planning{Client: b.client, between: sync.OnceFunc(func() {
		must(t, b.db.Get(t.Context(), &before, `select pg_snapshot_xmax(pg_current_snapshot())::text`))
		server.Kill()
		must(t, server.Restart(t.Context()))
		for range numbers / 4 {
			b.write("after", 1)
		}
		must(t, b.db.Get(t.Context(), &after, `select max(xid)::text from outbox`))
	})}
	r := b.relay(late)
	must(t, r.Flush(t.Context())) // it knows the database from now on
	b.write("before", 1)
	// What is rolled back begins on an empty page. The set's snapshot has seen it end.
	var at string
	must(t, b.db.Get(t.Context(), &at, `select pg_switch_wal()::text`))
	for range numbers {
		tx := b.begin()
		_, err := tx.ExecContext(t.Context(), `select pg_current_xact_id()`)
		must(t, err)
		must(t, tx.Rollback())
	}
	for try := 0; ; try++ {
		err := r.Flush(t.Context())
		if err == nil {
			break
		}
		if !postgres.Retryable(err) || try == 10 {
			t.Fatal(err)
		}
	}
	if len(after) > len(before) || len(after) == len(before) && after >= before {
		t.Fatalf("after the crash transactions got numbers up to %s, before it %s had been given out: nothing was given out again", after, before)
	}
	b.requireExact()
}
