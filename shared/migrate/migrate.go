// Package migrate owns the application of SQL migrations: forward only, one
// process at a time, each set of files with its own version table; and the
// privileges of the role that works with the tables and owns none of them.
package migrate

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// The lock is per schema and version table, and blocks where goose's own would
// poll once a second: services that start together wait for milliseconds.
const (
	lockSQL   = `select pg_advisory_lock(hashtextextended(current_schema() || '.' || $1, 0))`
	unlockSQL = `select pg_advisory_unlock(hashtextextended(current_schema() || '.' || $1, 0))`
)

// oldest is the first Postgres that the kit is tested on (make test-versions), as its
// server_version_num. xid8, which the relay rests on, came with 13.
const oldest = 140000

// Up applies the migrations of files that table does not list yet. Several
// processes may call it at once: one works, the others wait and then find
// nothing to do. It needs two connections of db.
func Up(ctx context.Context, db *sql.DB, files fs.FS, table string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("migrations of %s: %w", table, err)
		}
	}()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := checkServer(ctx, conn, oldest); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, lockSQL, table); err != nil {
		return fmt.Errorf("wait for another process that migrates: %w", err)
	}
	defer func() {
		// Without the unlock the pooled connection would keep the lock.
		_, unlockErr := conn.ExecContext(context.WithoutCancel(ctx), unlockSQL, table)
		if err == nil {
			err = unlockErr
		}
	}()
	store, err := database.NewStore(database.DialectPostgres, table)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider("", db, files, goose.WithStore(store), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// checkServer refuses a server below a version, where a migration would break off at
// the first statement that the server does not know.
func checkServer(ctx context.Context, conn *sql.Conn, oldest int) error {
	var number int
	var version string
	err := conn.QueryRowContext(ctx, `select current_setting('server_version_num')::integer, current_setting('server_version')`).Scan(&number, &version)
	if err != nil {
		return fmt.Errorf("ask the server for its version: %w", err)
	}
	if number < oldest {
		return fmt.Errorf("the server is Postgres %s; want %d or newer", version, oldest/10000)
	}
	return nil
}
