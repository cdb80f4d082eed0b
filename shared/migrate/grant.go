package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Set is a folder of migrations and the table of its versions.
type Set struct {
	Table string
	Files fs.FS
}

const (
	// grantLockSQL keeps two grants apart: Postgres refuses the second of two
	// changes of one object's list.
	grantLockSQL = `select pg_advisory_xact_lock(hashtextextended(current_schema() || '.grants', 0))`

	roleSQL = `select quote_ident(r.rolname), r.rolsuper or pg_has_role(r.oid, current_user::regrole, 'member') from pg_roles r where r.rolname = $1`

	// takeBackSQL makes the statements that take from a role what was granted to
	// it by name. What it never was granted, such as partitions, is left alone:
	// they come and go meanwhile. Before Postgres 15 everybody may create in public.
	takeBackSQL = `with r as (select oid, quote_ident(rolname) as name from pg_roles where rolname = $1)
select format('revoke all on table %s from %s', c.oid::regclass, r.name) from pg_class c, r
where c.relnamespace = current_schema()::regnamespace and (
  exists (select from aclexplode(c.relacl) a where a.grantee = r.oid)
  or exists (select from pg_attribute t, aclexplode(t.attacl) a where t.attrelid = c.oid and a.grantee = r.oid))
union all
select format('revoke all on routine %s from %s', p.oid::regprocedure, r.name) from pg_proc p, r
where p.pronamespace = current_schema()::regnamespace and exists (select from aclexplode(p.proacl) a where a.grantee = r.oid)
union all
select format('revoke create on schema %I from public', current_schema())
union all
select format('revoke all on schema %I from %s', current_schema(), r.name) from r
union all
select format('grant usage on schema %I to %s', current_schema(), r.name) from r`

	// surplusSQL finds what the role may do beside the list: because everybody
	// may, or a role that it is a member of, even if it has to say SET ROLE first. A
	// function counts when it acts for its owner; lists write its arguments in
	// their own way.
	surplusSQL = `with self as (select oid from pg_roles where pg_has_role($1::name, oid, 'member')),
relation as (select oid, relname, relkind from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f', 'S')),
list as (select string_to_array($2, E'\n') as lines),
held as (
  select 'create in schema ' || current_schema() as line from self where has_schema_privilege(self.oid, current_schema(), 'create')
  union select lower(verb) || ' on table ' || relname
  from self, relation r, unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) verb
  where relkind <> 'S' and has_table_privilege(self.oid, r.oid, verb)
  union select format('%s (%s) on table %s', lower(verb), attname, relname)
  from self, list, relation r join pg_attribute on attrelid = r.oid and attnum > 0, unnest(array['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) verb
  where relkind <> 'S' and not has_table_privilege(self.oid, r.oid, verb) and has_column_privilege(self.oid, r.oid, attnum, verb)
    and lower(verb) || ' on table ' || relname <> all (lines)
  union select lower(verb) || ' on sequence ' || relname
  from self, relation r, unnest(array['SELECT', 'USAGE', 'UPDATE']) verb where case relkind when 'S' then has_sequence_privilege(self.oid, r.oid, verb) end
  union select 'execute on function ' || p.oid::regprocedure
  from self, pg_proc p where pronamespace = current_schema()::regnamespace and prosecdef and has_function_privilege(self.oid, p.oid, 'execute')
    and not exists (select from unnest(string_to_array($3, E'\n')) signature where to_regprocedure(signature) = p.oid)
)
select line from held, list where line <> all (lines) limit 10`
)

// Grant makes what the sets' lists allow, and no more, the privileges of role in
// the schema, and lets it read the tables of versions. It takes back what was
// granted before and is not in the lists. The caller owns the tables. A role
// that could do more all the same is an error, and so is a set without a list:
// its service would be ready, and refused at its first statement.
func Grant(ctx context.Context, db *sql.DB, role string, sets ...Set) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("privileges of role %q: %w", role, err)
		}
	}()
	for _, s := range sets {
		if _, err := fs.Stat(s.Files, grantsFile); err != nil {
			return fmt.Errorf("%s: no %s beside its migrations: list there what the role may do with each of their tables, or leave it empty when it needs none; and embed it, too: go:embed of *.sql leaves it out: %w",
				s.Table, grantsFile, err)
		}
	}
	allowed, err := allPrivileges(sets)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after the commit there is nothing to undo
	if _, err := tx.ExecContext(ctx, grantLockSQL); err != nil {
		return err
	}
	quoted, err := runtimeRole(ctx, tx, role)
	if err != nil {
		return err
	}
	statements, err := texts(ctx, tx, takeBackSQL, role)
	if err != nil {
		return err
	}
	for _, p := range allowed {
		statements = append(statements, fmt.Sprintf("grant %s to %s", p, quoted))
	}
	for _, s := range statements {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w: the role that migrates must own it", s, err)
		}
	}
	if err := refuseSurplus(ctx, tx, role, allowed); err != nil {
		return err
	}
	return tx.Commit()
}

// allPrivileges is what the lists allow, and reading of versions.
func allPrivileges(sets []Set) ([]Privilege, error) {
	var all []Privilege
	for _, s := range sets {
		of, err := Privileges(s.Files)
		if err != nil {
			return nil, err
		}
		all = append(append(all, of...), Privilege{Kind: "table", Object: s.Table, Verb: "select"})
	}
	return all, nil
}

// runtimeRole returns the role's name for use in a statement.
func runtimeRole(ctx context.Context, tx *sql.Tx, role string) (quoted string, err error) {
	var owns bool
	err = tx.QueryRowContext(ctx, roleSQL, role).Scan(&quoted, &owns)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", errors.New("there is no such role: create it first, as deploy/postgres/roles.sh does")
	case err == nil && owns:
		return "", errors.New("it is a superuser or can act as the role that migrates, so it may do everything: name another one")
	}
	return quoted, err
}

func refuseSurplus(ctx context.Context, tx *sql.Tx, role string, allowed []Privilege) error {
	var lines, functions []string
	for _, p := range allowed {
		lines = append(lines, p.String())
		for _, column := range p.Columns {
			lines = append(lines, Privilege{Kind: p.Kind, Object: p.Object, Verb: p.Verb, Columns: []string{column}}.String())
		}
		if p.Kind == "function" {
			functions = append(functions, p.Object)
		}
	}
	surplus, err := texts(ctx, tx, surplusSQL, role, strings.Join(lines, "\n"), strings.Join(functions, "\n"))
	if err == nil && len(surplus) > 0 {
		err = fmt.Errorf("it may do what it must not: %s: take that back from public or from the roles that it is a member of", strings.Join(surplus, "; "))
	}
	return err
}

func texts(ctx context.Context, tx *sql.Tx, query string, args ...any) (all []string, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}
