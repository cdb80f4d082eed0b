package migrate_test

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/fstest"

	"pavane/migrations"
	"pavane/shared/migrate"
	"pavane/shared/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestUp_ManyAtOnce_ApplyEachMigrationOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	files := fstest.MapFS{
		"00001_a.sql": {Data: []byte("-- +goose Up\ncreate table a (n int); select pg_sleep(0.05);")},
		"00002_b.sql": {Data: []byte("-- +goose Up\ninsert into a values (1);")},
	}
	var wg sync.WaitGroup
	for range 4 {
		db := pgtest.Open(t, url)
		wg.Go(func() {
			if err := migrate.Up(t.Context(), db.SQL(), files, "versions"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var n int
	if err := pgtest.Open(t, url).SQL().QueryRow(`select count(*) from a`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d rows, %v; want 1", n, err)
	}
}

func TestUp_BrokenMigration_NamesItAndLeavesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t)
	files := fstest.MapFS{"00001_a.sql": {Data: []byte("-- +goose Up\ncreate table a (n int);\nselect nonsense;")}}
	if err := migrate.Up(t.Context(), db.SQL(), files, "versions"); err == nil {
		t.Fatal("a broken migration is accepted")
	}
	var exists bool
	if err := db.SQL().QueryRow(`select to_regclass('a') is not null`).Scan(&exists); err != nil || exists {
		t.Errorf("table of a failed migration exists: %t, %v", exists, err)
	}
}

func TestCheckServer_TooOld_SaysWhichItIsAndWhichIsWanted(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t)
	conn, err := db.SQL().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var version string
	if err := conn.QueryRowContext(t.Context(), `show server_version`).Scan(&version); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("the server is Postgres %s; want 99 or newer", version)
	if err := migrate.CheckServer(t.Context(), conn, 990000); err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
	if err := migrate.CheckServer(t.Context(), conn, 120000); err != nil {
		t.Errorf("a newer one is refused: %v", err)
	}
}

func TestKitMigrations_Apply(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t)
	if err := migrate.Up(t.Context(), db.SQL(), migrations.Kit(), "versions"); err != nil {
		t.Fatal(err)
	}
}
