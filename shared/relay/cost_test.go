package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/migrations"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

// blocks returns how many blocks of tables and indexes a look at the outbox
// reads.
func blocks(t *testing.T, db *postgres.DB, query string, args string) int {
	t.Helper()
	plan := planOf(t, db, "analyze, buffers", query, args)
	var explained []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal([]byte(plan), &explained); err != nil {
		t.Fatal(err)
	}
	return explained[0].Plan.Hit + explained[0].Plan.Read
}

func must(t *testing.T, db *postgres.DB, query string, args ...any) {
	t.Helper()
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// filled runs an insert of many rows, from number $1 to $2, piece by piece: on a slow
// machine one statement for all of them would take longer than it may.
func filled(t *testing.T, db *postgres.DB, query string, rows int) {
	t.Helper()
	const piece = 5000
	for from := 1; from <= rows; from += piece {
		must(t, db, query, from, min(from+piece-1, rows))
	}
}

// pooled returns the pool of a relay on a fresh schema with the kit's tables.
func pooled(t *testing.T) *postgres.DB {
	t.Helper()
	url := pgtest.URL(t)
	pgtest.Migrate(t, pgtest.Open(t, url), migrations.Kit())
	db, err := postgres.Open(Pool(url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestLook_ManyOldRowsAndNoStatistics_CostFollowsTheNewRows(t *testing.T) {
	t.Parallel()
	db := pooled(t)
	fill := func(n int) {
		t.Helper()
		filled(t, db, `insert into outbox (topic, key, sequence, event_id, type, headers, payload)
select 't', 'k', 1, 'e', 'a.b.v1', '\x00', '\x00' from generate_series($1::int, $2)`, n)
	}
	fill(50000)
	var at position
	if err := db.SQL().QueryRow(`select pg_current_snapshot()::text, pg_sequence_last_value('outbox_id_seq'), pg_current_xact_id()::text`).
		Scan(&at.snapshot, &at.id, &at.xid); err != nil {
		t.Fatal(err)
	}
	fill(20)
	// Parked keys must cost a lookup and no walk.
	must(t, db, `insert into relay_parked (key, topic, since_id, chunk, reason) select 'p' || i, 't', 1, 1, '' from generate_series(1, 300) i`)
	var target string
	if err := db.SQL().QueryRow(`select pg_current_snapshot()::text`).Scan(&target); err != nil {
		t.Fatal(err)
	}
	args := fmt.Sprintf("'%s', %d, '%s', 0, 1000", at.snapshot, at.id, at.xid)
	if got := blocks(t, db, nextSQL, args); got > 150 {
		t.Errorf("a look for 20 new rows behind 50000 old ones reads %d blocks", got)
	}
	if got := blocks(t, db, setSQL, args+", '"+target+"'"); got > 150 {
		t.Errorf("a look into a set behind 50000 old rows reads %d blocks", got)
	}
	if got := blocks(t, db, chunkSQL, args+fmt.Sprintf(", '%s', %d, 1", target, at.id+20)); got > 250 {
		t.Errorf("reading a chunk of 20 rows behind 50000 old ones again reads %d blocks", got)
	}
	if got := blocks(t, db, backlogSQL, fmt.Sprintf("'%s', %d, '%s', 0", at.snapshot, at.id, at.xid)); got > 250 {
		t.Errorf("counting a backlog of 20 rows behind 50000 old ones reads %d blocks", got)
	}
	if got := blocks(t, db, manySQL, "'3:3:', 0, '0', 0, 20"); got > 250 {
		t.Errorf("counting a backlog of 50020 rows up to 20 reads %d blocks", got)
	}
}

// A hash of all of them has no room in what Postgres gives to one.
func TestLook_FarMoreKeysAreRefusedAndReleasedThanAHashHolds_IsInTime(t *testing.T) {
	t.Parallel()
	db := pooled(t)
	filled(t, db, `insert into relay_parked (key, topic, since_id, chunk, reason) select 'refused key ' || n, 't', 1, 1, '' from generate_series($1::int, $2) n`, 200_000)
	filled(t, db, `insert into relay_released (key, topic, since_id, chunk, chunk_upto, target, upto_id, reason, parked_at, action, records, who, why)
select 'released key ' || n, 't', 1, 1, 1, pg_current_snapshot(), 1, '', now(), 'redrive', 1, 'ada', 'to see' from generate_series($1::int, $2) n`, 200_000)
	must(t, db, `analyze relay_parked, relay_released`) // or they are taken for small ones
	must(t, db, `insert into outbox (topic, key, sequence, event_id, type, headers, payload)
select 't', case when n % 2 = 0 then 'k' || n else 'refused key ' || n end, 1, 'e', 'a.b.v1', '\x00', '\x00' from generate_series(1, 3000) n`)
	found, err := newReader(Config{DB: db, Partitions: 1, ChunkBytes: 1 << 20}).after(t.Context(), &chunk{target: origin(), last: true}, 2000)
	if err != nil || found.rows != 1500 {
		t.Errorf("a look finds %d rows of keys that are not refused, %v; want 1500", found.rows, err)
	}
}

func TestMaintain_ParkedRow_IsKeptWhateverItsAge(t *testing.T) {
	t.Parallel()
	db := pooled(t)
	must(t, db, `insert into outbox (topic, key, sequence, event_id, type, headers, payload, created_at)
values ('t', 'k', 1, 'e', 'a.b.v1', '\x00', '\x00', '2020-02-02T00:00:00Z')`)
	must(t, db, `insert into relay_parked (key, topic, since_id, chunk, reason) select o.key, o.topic, o.id, 1, '' from outbox o`)
	r := &Relay{cfg: Config{DB: db, Retention: time.Hour}}
	keep, _, err := r.keepFrom(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2020, 2, 2, 0, 0, 0, 0, time.UTC); !keep.Equal(want) {
		t.Errorf("rows are kept from %v on, want %v, when the parked one was written", keep, want)
	}
}

// A select of a sequence's last value can meet the moment in which its page
// bears the number for the WAL, up to 31 too high: rows that get the ids in
// between would never be looked for. With setval each number is such a moment.
// That moment is too short to be met for certain, so the plan is looked at, too.
func TestLook_SequenceMovesOnAllTheTime_BoundIsNeverAboveAnIDToCome(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	if plan := planOf(t, db, "costs off", nextSQL, "'3:3:', 0, '0', 0, 1"); strings.Contains(plan, `"outbox_id_seq"`) {
		t.Errorf("a look's bound is read by a scan, without the lock of the sequence's page:\n%s", plan)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var drawing sync.WaitGroup
	defer drawing.Wait()
	defer cancel()
	// Not faster, or so many numbers are drawn while a look is under way that
	// its bound is right when it is compared.
	drawing.Go(func() {
		for ctx.Err() == nil { // what fails ended with ctx
			_, _ = db.SQL().ExecContext(ctx, `do $$ begin for i in 1..200 loop
  perform setval('outbox_id_seq', nextval('outbox_id_seq'));
  perform count(*) from generate_series(1, 2000);
end loop; end $$`)
		}
	})
	reader := newReader(Config{DB: db, Partitions: 1})
	for range 2000 {
		found, err := reader.after(t.Context(), &chunk{target: origin(), last: true}, 1)
		if err != nil {
			t.Fatal(err)
		}
		var drawn int64
		if err := db.SQL().QueryRowContext(t.Context(), `select coalesce(pg_sequence_last_value('outbox_id_seq'), 0)`).Scan(&drawn); err != nil {
			t.Fatal(err)
		}
		if drawn < found.target.id {
			t.Fatalf("a look's bound is %d, the last id is %d after it", found.target.id, drawn)
		}
	}
}

// planOf returns how a query is carried out, as JSON.
func planOf(t *testing.T, db *postgres.DB, options, query, args string) string {
	t.Helper()
	conn, err := db.SQL().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "prepare look as "+query); err != nil {
		t.Fatal(err)
	}
	defer conn.ExecContext(context.WithoutCancel(t.Context()), "deallocate look") //nolint:errcheck // the pool closes soon
	var plan string
	// The first run touches the catalogue, too.
	for range 2 {
		if err := conn.QueryRowContext(t.Context(), "explain ("+options+", format json) execute look("+args+")").Scan(&plan); err != nil {
			t.Fatal(err)
		}
	}
	return plan
}
