package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/faultproxy"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

// The proxy carries each request out or does not, and the caller is told neither.
func TestExecOnce_AnswerLost_IsUnknownAndNeverRunTwice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault faultproxy.Fault
		rows  int
	}{
		{faultproxy.Drop, 1}, {faultproxy.Cut, 1}, {faultproxy.CutBefore, 0},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			t.Parallel()
			db, p, direct := throughProxy(t, postgres.Config{NetworkTimeout: 5 * time.Second}) // an answer that is not lost comes sooner
			must(t, direct.InTx(t.Context(), exec(`create table t (n int)`)))
			insert := func() error {
				_, err := db.ExecOnce(t.Context(), `insert into t values ($1)`, 1)
				return err
			}
			must(t, insert()) // prepares the statement
			p.Arm("INSERT", 1, c.fault, 0)
			if err := insert(); !errors.Is(err, postgres.ErrCommitUnknown) {
				t.Errorf("got %v, want that the outcome is unknown", err)
			}
			must(t, insert()) // by another connection
			var n int
			must(t, direct.Get(t.Context(), &n, `select count(*) from t`))
			if n != 2+c.rows {
				t.Errorf("%d rows, want %d", n, 2+c.rows)
			}
		})
	}
}

func TestExecOnce_IdleConnectionsCut_TakesAnother(t *testing.T) {
	t.Parallel()
	db, other := pgtest.Schema(t), pgtest.Schema(t)
	must(t, db.InTx(t.Context(), exec(`create table t (n int)`)))
	for i := range 3 {
		var pid, n int
		_, err := db.ExecOnce(t.Context(), `insert into t values ($1)`, i)
		must(t, err)
		must(t, db.Get(t.Context(), &pid, `select pg_backend_pid()`))
		must(t, other.InTx(t.Context(), exec(`select pg_terminate_backend($1, 5000)`, pid)))
		_, err = db.ExecOnce(t.Context(), `insert into t values ($1)`, i)
		must(t, err)
		must(t, db.Get(t.Context(), &n, `select count(*) from t`))
		if n != 2*(i+1) {
			t.Errorf("%d rows, want %d", n, 2*(i+1))
		}
	}
}

func TestExecOnce_ServerRefuses_ItIsSaidAndUndone(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t)
	must(t, db.InTx(t.Context(), exec(`create table t (n int primary key)`)))
	_, err := db.ExecOnce(t.Context(), `insert into t values ($1), ($2)`, 1, 2)
	must(t, err)
	_, err = db.ExecOnce(t.Context(), `insert into t values ($1), ($2)`, 3, 2)
	if !postgres.Unique(err) || errors.Is(err, postgres.ErrCommitUnknown) {
		t.Errorf("got %v, want a unique violation", err)
	}
	err = db.InTx(t.Context(), func(ctx context.Context, _ *sqlx.Tx) error {
		_, err := db.ExecOnce(ctx, `insert into t values ($1)`, 4)
		return err
	})
	if err == nil {
		t.Error("within a transaction: accepted")
	}
	var n int
	must(t, db.Get(t.Context(), &n, `select count(*) from t`))
	if n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

// Its session is ended while the statement is under way: what became of it the server
// does not say.
func TestExecOnce_SessionIsEnded_IsUnknown(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t)
	_, err := db.ExecOnce(t.Context(), `select pg_terminate_backend(pg_backend_pid()), pg_sleep($1)`, 30.0)
	if !errors.Is(err, postgres.ErrCommitUnknown) {
		t.Errorf("got %v, want that the outcome is unknown", err)
	}
}

// Where the server speaks another language than English, the driver takes the last
// word of a session for the failure of a statement: only the code tells.
func TestExecOnce_CodeOfASessionsEnd_IsUnknown(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t)
	for code, unknown := range map[string]bool{"08006": true, "25P04": true, "57P01": true, "XX000": true, "57014": false, "P0001": false} {
		_, err := db.ExecOnce(t.Context(), `do $$ begin raise exception using errcode = '`+code+`'; end $$`)
		if err == nil || errors.Is(err, postgres.ErrCommitUnknown) != unknown {
			t.Errorf("%s: got %v, want that the outcome is unknown: %t", code, err, unknown)
		}
	}
}

func TestExecOnce_StatementIsForgottenByTheServer_IsRunAgain(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t)
	db.SQL().SetMaxOpenConns(1)
	must(t, db.InTx(t.Context(), exec(`create table t (n int)`)))
	for n := range 2 {
		_, err := db.ExecOnce(t.Context(), `insert into t values ($1)`, n)
		must(t, err)
		must(t, db.InTx(t.Context(), exec(`deallocate all`)))
	}
	var n int
	must(t, db.Get(t.Context(), &n, `select count(*) from t`))
	if n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}
