package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

func databases() []string { return []string{"orders", "payments", "inventory", "notifications"} }

// database opens a service's database, once.
func (u *up) database(name string) *postgres.DB {
	u.t.Helper()
	if db := u.pools[name]; db != nil {
		return db
	}
	u.pools[name] = pgtest.Open(u.owner, u.url(name))
	return u.pools[name]
}

// url is that of a service's database.
func (u *up) url(name string) string {
	u.t.Helper()
	at, err := url.Parse(u.State().Postgres)
	must(u.t, err)
	at.Path = "/" + name
	return at.String()
}

// tables is the content of tables: "orders.stock" → rows and their fingerprint.
type tables map[string]string

const (
	// A table's own partitions are read through it.
	tablesSQL = `select c.relname from pg_class c where c.relnamespace = current_schema()::regnamespace
and c.relkind in ('r', 'p') and not c.relispartition order by 1`
	contentSQL = `select count(*) || ' rows, ' || coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from %s t`
)

// content reads all tables of all services.
func (u *up) content() tables {
	u.t.Helper()
	found := tables{}
	for _, name := range databases() {
		read(u.t, u.database(name), func(ctx context.Context, tx *sqlx.Tx) error {
			var names []string
			if err := tx.SelectContext(ctx, &names, tablesSQL); err != nil {
				return err
			}
			for _, table := range names {
				var content string
				if err := tx.GetContext(ctx, &content, fmt.Sprintf(contentSQL, table)); err != nil {
					return err
				}
				found[name+"."+table] = content
			}
			return nil
		})
	}
	if len(found) < 4*len(databases()) {
		u.t.Fatalf("only the tables %v were found", slices.Sorted(maps.Keys(found)))
	}
	return found
}

// changed names the tables that differ.
func (t tables) changed(later tables) string {
	var names []string
	for name, content := range later {
		if t[name] != content {
			names = append(names, fmt.Sprintf("%s: %s, then %s", name, t[name], content))
		}
	}
	slices.Sort(names)
	return strings.Join(names, "\n")
}

// quiet waits until every event is published and applied, and nothing waits.
func (u *up) quiet() {
	u.t.Helper()
	last := tables{}
	still := 0
	await.True(u.t, stopLimit, "nothing changes any more", func() bool {
		now := u.content()
		if last.changed(now) != "" {
			still = 0
		}
		last = now
		still++
		return still > 10
	})
}

func read(t testing.TB, db *postgres.DB, f func(ctx context.Context, tx *sqlx.Tx) error) {
	t.Helper()
	must(t, db.Read(t.Context(), f))
}

// hold keeps a service's consumer back until release is called, or the test ends:
// it locks what each batch begins with.
func (u *up) hold(database string) (release func()) {
	u.t.Helper()
	tx, err := u.database(database).SQL().BeginTx(context.WithoutCancel(u.t.Context()), nil)
	must(u.t, err)
	u.t.Cleanup(func() { tx.Rollback() }) //nolint:errcheck // it may be over
	_, err = tx.Exec(`set local idle_in_transaction_session_timeout = 0; lock table inbox_offset in exclusive mode`)
	must(u.t, err)
	return func() { must(u.t, tx.Rollback()) }
}
