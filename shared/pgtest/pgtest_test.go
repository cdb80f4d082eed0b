package pgtest_test

import (
	"context"
	"os"
	"testing"
	"testing/fstest"

	"github.com/jmoiron/sqlx"

	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func value[T any](t *testing.T, db *postgres.DB, query string, args ...any) T {
	t.Helper()
	var v T
	err := db.InTx(context.Background(), func(ctx context.Context, tx *sqlx.Tx) error {
		return tx.GetContext(ctx, &v, query, args...)
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func exec(t *testing.T, db *postgres.DB, statement string) {
	t.Helper()
	err := db.InTx(context.Background(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, statement)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func TestSchema_TestsOfOneServer_DoNotSeeEachOthersTables(t *testing.T) {
	t.Parallel()
	one, two := pgtest.Schema(t), pgtest.Schema(t)
	exec(t, one, `create table thing (id int)`)
	exec(t, two, `create table thing (id int)`)
	exec(t, one, `insert into thing values (1)`)
	if n := value[int](t, two, `select count(*) from thing`); n != 0 {
		t.Errorf("second schema sees %d rows of the first", n)
	}
}

func TestSchema_TestEnds_SchemaIsGone(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("inner", func(t *testing.T) { //nolint:paralleltest // the outer test looks after it
		name = value[string](t, pgtest.WithKit(t), `select current_schema()`)
	})
	if left := value[int](t, pgtest.Schema(t), `select count(*) from pg_namespace where nspname = $1`, name); left != 0 {
		t.Errorf("schema %s is still there", name)
	}
}

func TestWithKit_ExtraMigrations_AreAppliedAfterTheKit(t *testing.T) {
	t.Parallel()
	extra := fstest.MapFS{"00001_mail.sql": {Data: []byte("-- +goose Up\ncreate table mail (id int, head bigint references relay_journal);\n")}}
	db := pgtest.WithKit(t, extra)
	tables := value[int](t, db, `select count(*) from pg_class where relnamespace = current_schema()::regnamespace and relname in ('outbox', 'inbox', 'mail')`)
	if tables != 3 {
		t.Errorf("found %d of the tables outbox, inbox, mail", tables)
	}
}

func TestDatabase_Fresh_HasItsOwnAdvisoryLocks(t *testing.T) {
	t.Parallel()
	one, two := pgtest.Open(t, pgtest.Database(t)), pgtest.Open(t, pgtest.Database(t))
	err := one.InTx(context.Background(), func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, `select pg_advisory_xact_lock(7)`); err != nil {
			return err
		}
		if !value[bool](t, two, `select pg_try_advisory_xact_lock(7)`) {
			t.Error("a lock in one database holds in the other")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
