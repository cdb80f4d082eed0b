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

// The server drops a request to cancel that it reads before the statement, and a
// network may drop any.
func TestDB_ContextEndsAndCancelIsLost_ReturnsAllTheSame(t *testing.T) {
	t.Parallel()
	sleep := `select pg_sleep($1)`
	for name, call := range map[string]func(context.Context, *postgres.DB) error{
		"InTx": func(ctx context.Context, db *postgres.DB) error { return db.InTx(ctx, exec(sleep, 9.0)) },
		"InTx without arguments": func(ctx context.Context, db *postgres.DB) error {
			return db.InTx(ctx, exec(`select pg_sleep(9)`))
		},
		"Get": func(ctx context.Context, db *postgres.DB) error {
			var none string
			return db.Get(ctx, &none, sleep, 9.0)
		},
		"ExecOnce": func(ctx context.Context, db *postgres.DB) error {
			_, err := db.ExecOnce(ctx, sleep, 9.0)
			return err
		},
		"rows": func(ctx context.Context, db *postgres.DB) error {
			rows, err := db.SQL().QueryContext(ctx, `select case i when $1 then pg_sleep(9)::text else repeat('x', 100) end from generate_series(1, $1) i`, 10_000)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
			}
			return rows.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, p, direct := throughProxy(t, postgres.Config{MaxConns: 1})
			var pid int
			must(t, db.Get(t.Context(), &pid, `select pg_backend_pid()`))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- call(ctx, db) }()
			awaitAsleep(t, direct, pid)
			p.Part()
			begin := time.Now()
			cancel()
			err := <-done
			if took := time.Since(begin); err == nil || took > 5*time.Second {
				t.Errorf("after %v: %v", took, err)
			}
		})
	}
}

func awaitAsleep(t *testing.T, db *postgres.DB, pid int) {
	t.Helper()
	for asleep := false; !asleep; {
		must(t, db.Get(t.Context(), &asleep, `select coalesce(wait_event = 'PgSleep', false) from pg_stat_activity where pid = $1`, pid))
	}
}

func TestInTx_ContextEndedBeforeTheCommit_IsRolledBackAndKnown(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := db.InTx(ctx, func(context.Context, *sqlx.Tx) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, postgres.ErrCommitUnknown) {
		t.Errorf("got %v", err)
	}
	must(t, db.Ping(t.Context()))
}
