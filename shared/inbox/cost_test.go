package inbox

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/jmoiron/sqlx"

	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

// blocks returns how many blocks of tables and indexes a query reads when it is
// planned as the services' pools plan.
func blocks(t *testing.T, db *postgres.DB, query string, args ...any) (n int) {
	t.Helper()
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, `set local enable_seqscan = off; set local plan_cache_mode = force_generic_plan; set local jit = off`); err != nil {
			return err
		}
		var plan []byte
		for range 2 { // the first run touches the catalogue, too
			if err := tx.GetContext(ctx, &plan, "explain (analyze, buffers, format json) "+query, args...); err != nil {
				return err
			}
		}
		var explained []struct {
			Plan struct {
				Hit  int `json:"Shared Hit Blocks"`
				Read int `json:"Shared Read Blocks"`
			}
		}
		err := json.Unmarshal(plan, &explained)
		n = explained[0].Plan.Hit + explained[0].Plan.Read
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRunnable_ManyRecordsBehindOneKey_CostFollowsTheKeys(t *testing.T) {
	t.Parallel()
	cost := map[int]map[string]int{}
	for _, followers := range []int{10, 50_000} {
		db := pgtest.WithKit(t)
		const piece = 5000 // in one statement all of them would take too long on a slow machine
		for from := 1; from <= followers; from += piece {
			err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
				_, err := tx.ExecContext(ctx, `insert into parked (source, key, sequence, topic, partition, record_offset, type, headers, payload, reason, cause)
select '/s', case when n = 1 then 'a' else 'b' end, n, 't', 0, n, 'k.v1', '', '', '', case when n <= 2 then 'fault' else 'follows' end from generate_series($1::bigint, $2) n`, from, min(from+piece-1, followers))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		cost[followers] = map[string]int{
			"runnable": blocks(t, db, runnableSQL, postgres.Array([]string{"t"}), postgres.Array([]int32{0}), 64, postgres.Array([]string{"k.v2"})),
			"count":    blocks(t, db, countSQL),
		}
	}
	for name, few := range cost[10] {
		if many := cost[50_000][name]; many > 2*few+8 {
			t.Errorf("%s reads %d blocks with 10 records behind a key, %d with 50,000", name, few, many)
		}
	}
}
