package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// ErrMissing says that a migration or a privilege is not there (yet).
var ErrMissing = errors.New("not there (yet); run the service with -migrate, as the owner")

const mayReadSQL = `select to_regclass($1) is not null and has_table_privilege(to_regclass($1), 'select')`

// Ready returns nil when all migrations of the sets are applied and the role of
// the connection may do what their lists allow, else an error that wraps
// [ErrMissing] and says what is missing. Later migrations than the sets know of
// do no harm. It changes nothing.
func Ready(ctx context.Context, db *sql.DB, sets ...Set) error {
	if err := Applied(ctx, db, sets...); err != nil {
		return err
	}
	allowed, err := allPrivileges(sets)
	if err != nil {
		return err
	}
	for _, p := range allowed {
		var has sql.NullBool
		query, args := p.check()
		if err := db.QueryRowContext(ctx, query, args...).Scan(&has); err != nil {
			return err
		}
		if !has.Bool {
			return fmt.Errorf("privilege to %s: %w", p, ErrMissing)
		}
	}
	return nil
}

// Applied is [Ready] for whoever only looks: what the role of the connection may
// do does not matter, as long as it may read the tables of versions.
func Applied(ctx context.Context, db *sql.DB, sets ...Set) error {
	for _, s := range sets {
		if err := applied(ctx, db, s); err != nil {
			return err
		}
	}
	return nil
}

// check is the query that tells whether the connection's role has p.
func (p Privilege) check() (query string, args []any) {
	switch {
	case p.Kind == "function":
		return `select has_function_privilege(to_regprocedure($1), $2)`, []any{p.Object, p.Verb}
	case p.Kind == "sequence":
		return `select has_sequence_privilege(to_regclass($1), $2)`, []any{p.Object, p.Verb}
	case p.Columns != nil:
		return `select bool_and(has_column_privilege(to_regclass($1), c, $2)) from unnest(string_to_array($3, ',')) c`,
			[]any{p.Object, p.Verb, strings.Join(p.Columns, ",")}
	}
	return `select has_table_privilege(to_regclass($1), $2)`, []any{p.Object, p.Verb}
}

// applied looks into the table of versions itself: goose would make it.
func applied(ctx context.Context, db *sql.DB, s Set) error {
	store, err := database.NewStore(database.DialectPostgres, s.Table)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider("", db, s.Files, goose.WithStore(store), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	var readable bool
	if err := db.QueryRowContext(ctx, mayReadSQL, s.Table).Scan(&readable); err != nil {
		return err
	}
	if !readable {
		return fmt.Errorf("table %s, or the privilege to read it: %w", s.Table, ErrMissing)
	}
	done, err := store.ListMigrations(ctx, db)
	if err != nil {
		return fmt.Errorf("migrations of %s: %w", s.Table, err)
	}
	have := map[int64]bool{}
	for _, m := range done {
		have[m.Version] = have[m.Version] || m.IsApplied
	}
	for _, source := range provider.ListSources() {
		if !have[source.Version] {
			return fmt.Errorf("migration %d of %s: %w", source.Version, s.Table, ErrMissing)
		}
	}
	return nil
}
