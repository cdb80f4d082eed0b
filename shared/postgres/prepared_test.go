package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

func TestInTx_TableChangedUnderAPreparedStatement_IsRunAgain(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t)
	db.SQL().SetMaxOpenConns(1)
	must(t, db.InTx(t.Context(), exec(`create table t (n int)`)))
	must(t, db.InTx(t.Context(), exec(`insert into t values (1)`)))
	read := func() (n int64) {
		must(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			return tx.GetContext(ctx, &n, `select n from t where n = $1`, 1)
		}))
		return n
	}
	read()
	must(t, db.InTx(t.Context(), exec(`alter table t alter n type bigint`)))
	if n := read(); n != 1 {
		t.Errorf("got %d", n)
	}
	must(t, db.InTx(t.Context(), exec(`deallocate all`)))
	if n := read(); n != 1 {
		t.Errorf("after deallocate: got %d", n)
	}
	must(t, db.InTx(t.Context(), exec(`alter table t alter n type int`)))
	var n int64
	must(t, db.Get(t.Context(), &n, `select n from t where n = $1`, 1))
}

func TestPool_IdleConnectionsCut_NextUseTakesAnother(t *testing.T) {
	t.Parallel()
	db, other := pgtest.Schema(t), pgtest.Schema(t)
	for range 3 {
		var n, pid int
		must(t, db.Get(t.Context(), &pid, `select pg_backend_pid()`))
		must(t, other.InTx(t.Context(), exec(`select pg_terminate_backend($1, 5000)`, pid)))
		must(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return tx.GetContext(ctx, &n, `select $1::int`, 1) }))
		must(t, db.Get(t.Context(), &pid, `select pg_backend_pid()`))
		must(t, other.InTx(t.Context(), exec(`select pg_terminate_backend($1, 5000)`, pid)))
		list := []int{7}
		must(t, db.Select(t.Context(), &list, `select n from generate_series(1, $1) n`, 2))
		if len(list) != 2 {
			t.Errorf("got %v, want two rows", list)
		}
	}
}

func TestInTx_ContextEndsDuringAStatement_Returns(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err := db.InTx(ctx, exec(`select pg_sleep($1)`, 8.0))
	if err == nil || time.Since(begin) > 4*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
	if errors.Is(err, postgres.ErrCommitUnknown) {
		t.Errorf("nothing was committed: %v", err)
	}
}
