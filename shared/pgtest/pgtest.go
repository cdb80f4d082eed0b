// Package pgtest owns the real Postgres that tests run on: one server per test process, or an existing one,
// and in it a schema or a database of its own for each test, so that tests run in parallel.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/devstack"
	"pavane/migrations"
	"pavane/shared/migrate"
	"pavane/shared/postgres"
)

// serverEnv names the variable with the address of the server: a postgres:// URL of a superuser. Main sets it for
// the process and its children when nobody else has; the environment is what tests and the programs that
// they start have in common.
const serverEnv = "PAVANE_POSTGRES"

const (
	// patience bounds every single step of set-up and clean-up.
	patience = 30 * time.Second
	// testConns is the size of a test's pool. Small: many tests share one server's connections.
	testConns = 8
)

// Main runs the tests of a package with a Postgres at hand and returns the exit code for os.Exit. The server is the
// one that PAVANE_POSTGRES names, else one of its own without fsync that ends with the tests, however they end.
func Main(m *testing.M) int {
	if os.Getenv(serverEnv) != "" {
		return m.Run()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience) // a first start may fetch Postgres
	defer cancel()
	server, err := devstack.StartPostgres(ctx, devstack.PostgresConfig{
		NoSync: true, Progress: func(s string) { fmt.Fprintln(os.Stderr, "pgtest:", s) },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return 1
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
		}
	}()
	if err := os.Setenv(serverEnv, server.URL("postgres")); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return 1
	}
	return m.Run()
}

// Schema returns a pool whose search_path is a fresh, empty schema, dropped when the test ends. Advisory locks,
// transaction ids and pg_stat_activity are shared with other tests; see Database.
func Schema(t testing.TB) *postgres.DB {
	t.Helper()
	return Open(t, URL(t))
}

// WithKit is Schema with the tables of the kit and then those of the extra sets of migrations, in order.
func WithKit(t testing.TB, extra ...fs.FS) *postgres.DB {
	t.Helper()
	db := Schema(t)
	Migrate(t, db, append([]fs.FS{migrations.Kit()}, extra...)...)
	return db
}

// Migrate applies sets of migrations to db, in order, each with a version table of its own.
func Migrate(t testing.TB, db *postgres.DB, sets ...fs.FS) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i, set := range sets {
		if err := migrate.Up(ctx, db.SQL(), set, "goose_"+strconv.Itoa(i)); err != nil {
			t.Fatalf("migrate test schema: %v", err)
		}
	}
}

// URL returns the address of a fresh schema, for code under test that opens its own pool. The schema is dropped when
// the test ends.
func URL(t testing.TB) string {
	t.Helper()
	name := freshName()
	admin := server(t)
	run(t, admin, `create schema `+name)
	t.Cleanup(func() { run(t, admin, `drop schema `+name+` cascade`) })
	q := admin.Query()
	q.Set("search_path", name)
	own := *admin
	own.RawQuery = q.Encode()
	return own.String()
}

// Roles returns the address of a fresh schema twice: as the role that owns it, and as one that may do nothing in it
// until it is granted something. Both end with the test.
func Roles(t testing.TB) (owner, runtime string) {
	t.Helper()
	admin := server(t)
	q := admin.Query()
	q.Set("search_path", freshName())
	schema := q.Get("search_path")
	login := func(role string) string {
		password := rand.Text()
		run(t, admin, fmt.Sprintf(`create role %s login password '%s'`, role, password))
		as := *admin
		as.User, as.RawQuery = url.UserPassword(role, password), q.Encode()
		return as.String()
	}
	owner, runtime = login(schema+"_owner"), login(schema+"_runtime")
	run(t, admin, fmt.Sprintf(`create schema %s authorization %[1]s_owner`, schema))
	t.Cleanup(func() {
		run(t, admin, fmt.Sprintf(`drop owned by %s_owner, %[1]s_runtime cascade; drop role %[1]s_owner, %[1]s_runtime`, schema))
	})
	return owner, runtime
}

// Database returns the address of a fresh database, for tests of what is the whole database's: advisory locks, bells,
// pg_stat views. It costs about 50 ms, a schema about 1. The database is dropped when the test ends, with
// whoever is still connected.
func Database(t testing.TB) string {
	t.Helper()
	name := freshName()
	admin := server(t)
	run(t, admin, `create database `+name)
	t.Cleanup(func() { run(t, admin, `drop database `+name+` with (force)`) })
	own := *admin
	own.Path = "/" + name
	return own.String()
}

// Open opens a pool on url that is closed when the test ends.
func Open(t testing.TB, url string) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(postgres.Config{URL: url, MaxConns: testConns, Name: t.Name()})
	if err != nil {
		t.Fatalf("open test database: %v", err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// server returns the address of the server that Main provides.
func server(t testing.TB) *url.URL {
	t.Helper()
	raw := os.Getenv(serverEnv)
	if raw == "" {
		t.Fatalf("no Postgres: give this package a TestMain that calls pgtest.Main, or set %s", serverEnv)
	}
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatalf("%s (not shown) is no URL: want postgres://user:password@host:port", serverEnv)
	}
	return u
}

// run executes one statement over a connection of its own; a pool that is kept open for it would cost the
// server a connection per test.
func run(t testing.TB, admin *url.URL, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	db, err := sqlx.ConnectContext(ctx, "postgres", admin.String())
	if err != nil {
		t.Fatalf("connect to test server: %v", err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, statement); err != nil {
		t.Errorf("%s: %v", statement, err)
	}
}

// freshName is a name for a schema or database that needs no quoting and is used once.
func freshName() string { return "t_" + strings.ToLower(rand.Text()) }
