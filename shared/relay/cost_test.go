package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"

	"pavane/migrations"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

// blocks returns how many blocks of tables and indexes a look at the outbox
// reads.
func blocks(t *testing.T, db *postgres.DB, query string, args string) int {
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
	var plan []byte
	// The first run touches the catalogue, too.
	for range 2 {
		if err := conn.QueryRowContext(t.Context(), "explain (analyze, buffers, format json) execute look("+args+")").Scan(&plan); err != nil {
			t.Fatal(err)
		}
	}
	var explained []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal(plan, &explained); err != nil {
		t.Fatal(err)
	}
	return explained[0].Plan.Hit + explained[0].Plan.Read
}

func TestLook_ManyOldRowsAndNoStatistics_CostFollowsTheNewRows(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pgtest.Migrate(t, pgtest.Open(t, url), migrations.Kit())
	db, err := postgres.Open(Pool(url))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	fill := func(n int) {
		t.Helper()
		err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, `insert into outbox (topic, key, sequence, event_id, type, headers, payload)
select 't', 'k', 1, 'e', 'a.b.v1', '\x00', '\x00' from generate_series(1, $1)`, n)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	fill(50000)
	var at position
	if err := db.SQL().QueryRow(`select pg_current_snapshot()::text, last_value, pg_current_xact_id()::text from outbox_id_seq`).
		Scan(&at.snapshot, &at.id, &at.xid); err != nil {
		t.Fatal(err)
	}
	fill(20)
	args := fmt.Sprintf("'%s', %d, '%s', 0, 1000", at.snapshot, at.id, at.xid)
	if got := blocks(t, db, nextSQL, args); got > 150 {
		t.Errorf("a look for 20 new rows behind 50000 old ones reads %d blocks", got)
	}
	if got := blocks(t, db, setSQL, args+", '"+at.snapshot+"'"); got > 150 {
		t.Errorf("a look into a set behind 50000 old rows reads %d blocks", got)
	}
}
