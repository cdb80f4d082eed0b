package migrate_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pavane/migrations"
	"pavane/shared/migrate"
	"pavane/shared/pgtest"
)

// services are the migrations of each service.
func services() map[string]fs.FS {
	return map[string]fs.FS{
		"order": migrations.Order(), "payment": migrations.Payment(), "inventory": migrations.Inventory(), "notification": migrations.Notification(),
	}
}

func sets(service string, files fs.FS) []migrate.Set {
	return []migrate.Set{{Table: "migrations_kit", Files: migrations.Kit()}, {Table: "migrations_" + service, Files: files}}
}

// rolesOf migrates a fresh schema as its owner and grants the runtime role its privileges.
func rolesOf(t *testing.T, service string, files fs.FS) (owner, runtime *sql.DB, role string) {
	t.Helper()
	ownerURL, runtimeURL := pgtest.Roles(t)
	u, err := url.Parse(runtimeURL)
	if err != nil {
		t.Fatal(err)
	}
	owner, runtime, role = pgtest.Open(t, ownerURL).SQL(), pgtest.Open(t, runtimeURL).SQL(), u.User.Username()
	up(t, owner, sets(service, files)...)
	grant(t, owner, role, sets(service, files)...)
	return owner, runtime, role
}

func up(t *testing.T, db *sql.DB, sets ...migrate.Set) {
	t.Helper()
	for _, s := range sets {
		if err := migrate.Up(t.Context(), db, s.Files, s.Table); err != nil {
			t.Fatal(err)
		}
	}
}

func grant(t *testing.T, db *sql.DB, role string, sets ...migrate.Set) {
	t.Helper()
	if err := migrate.Grant(t.Context(), db, role, sets...); err != nil {
		t.Fatal(err)
	}
}

// may runs a statement and takes it back; it tells whether the role was allowed to. A statement that is allowed may
// fail for another reason.
func may(t *testing.T, db *sql.DB, statement string) bool {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	_, err = tx.Exec(statement)
	var state interface{ SQLState() string }
	if err != nil && !errors.As(err, &state) {
		t.Fatalf("%s: %v", statement, err)
	}
	return err == nil || state.SQLState() != "42501"
}

// TestGrant_EveryTableAndVerb_ExactlyTheAllowedOnes tries each statement as the runtime role.
func TestGrant_EveryTableAndVerb_ExactlyTheAllowedOnes(t *testing.T) {
	t.Parallel()
	for service, files := range services() {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			owner, runtime, _ := rolesOf(t, service, files)
			var want []string
			for _, set := range sets(service, files) {
				of, err := migrate.Privileges(set.Files)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range append(of, migrate.Privilege{Kind: "table", Object: set.Table, Verb: "select"}) {
					want = append(want, p.String())
				}
			}
			got := append(triedOnTables(t, owner, runtime), triedOnOthers(t, owner, runtime)...)
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("the runtime role may do\n%s\nbut its list says\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// triedOnTables returns what the runtime role can do with the tables, as a list of privileges.
func triedOnTables(t *testing.T, owner, runtime *sql.DB) (got []string) {
	t.Helper()
	tables := query(t, owner, `select relname::text from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p')`)
	for _, table := range tables {
		for verb, statement := range map[string]string{
			"select": `select from %s limit 0`, "insert": `insert into %s default values`, "delete": `delete from %s where false`,
			"truncate": `truncate %s`, "trigger": `create trigger x before insert on %s for each row execute function nothing()`,
			"drop": `drop table %s`, "alter": `alter table %s add column x integer`, "index": `create index on %s ((1))`,
			"lock": `lock table %s in access exclusive mode`, "comment": `comment on table %s is 'x'`,
			"references": `do $$ begin if not has_any_column_privilege('%s', 'references') then raise insufficient_privilege; end if; end $$`,
		} {
			// Whoever may update or delete may also lock; that adds nothing to the list.
			if may(t, runtime, fmt.Sprintf(statement, table)) && (verb != "lock" || !may(t, runtime, fmt.Sprintf(`delete from %s where false`, table)) && !updates(t, owner, runtime, table)) {
				got = append(got, verb+" on table "+table)
			}
		}
		got = append(got, triedUpdates(t, owner, runtime, table)...)
	}
	return got
}

func updates(t *testing.T, owner, runtime *sql.DB, table string) bool {
	return len(triedUpdates(t, owner, runtime, table)) > 0
}

// triedUpdates tries an update of each column.
func triedUpdates(t *testing.T, owner, runtime *sql.DB, table string) []string {
	t.Helper()
	columns := query(t, owner, `select attname::text from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum`, table)
	var can []string
	for _, c := range columns {
		if may(t, runtime, fmt.Sprintf(`update %s set %s = default where false`, table, c)) {
			can = append(can, c)
		}
	}
	switch len(can) {
	case 0:
		return nil
	case len(columns):
		return []string{"update on table " + table}
	}
	return []string{migrate.Privilege{Kind: "table", Object: table, Verb: "update", Columns: can}.String()}
}

// triedOnOthers returns what the runtime role can do with sequences, functions and the schema.
func triedOnOthers(t *testing.T, owner, runtime *sql.DB) (got []string) {
	t.Helper()
	for _, sequence := range query(t, owner, `select relname::text from pg_class where relnamespace = current_schema()::regnamespace and relkind = 'S'`) {
		for verb, statement := range map[string]string{
			"usage": `select nextval('%s')`, "select": `select last_value from %s`, "update": `select setval('%s', 1)`, "alter": `alter sequence %s restart`,
		} {
			if may(t, runtime, fmt.Sprintf(statement, sequence)) {
				got = append(got, verb+" on sequence "+sequence)
			}
		}
	}
	// Trigger functions can be called by nobody.
	for _, f := range query(t, owner, `select proname || '(' || replace(oidvectortypes(proargtypes), 'timestamp with time zone', 'timestamptz') || ')' from pg_proc
where pronamespace = current_schema()::regnamespace and prorettype <> 'trigger'::regtype`) {
		arguments := strings.Repeat(", null", strings.Count(f, ",")+1)[2:]
		if strings.HasSuffix(f, "()") {
			arguments = ""
		}
		if may(t, runtime, fmt.Sprintf(`select %s(%s)`, strings.Split(f, "(")[0], arguments)) {
			got = append(got, "execute on function "+f)
		}
	}
	for what, statement := range map[string]string{
		"create table": `create table x (n integer)`, "create function": `create function x() returns integer language sql as 'select 1'`,
		"create sequence": `create sequence x`, "alter function": `alter function outbox_drop(timestamptz, pg_snapshot) security invoker`,
		"create schema": `create schema x`, "create role": `create role x`, "set role": `select set_config('role', pg_get_userbyid(nspowner), true) from pg_namespace where nspname = current_schema()`,
		"grant": `do $$ begin grant delete on outbox to public; if has_table_privilege('outbox', 'delete') then return; end if; raise insufficient_privilege; end $$`,
	} {
		if may(t, runtime, statement) {
			got = append(got, what)
		}
	}
	return got
}

func query(t *testing.T, db *sql.DB, statement string, args ...any) (all []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), statement, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return all
}

// TestGrants_OutboxAndLedgers_AreOnlyAddedTo reads the lists, whoever edits them.
func TestGrants_OutboxAndLedgers_AreOnlyAddedTo(t *testing.T) {
	t.Parallel()
	appendOnly := map[string]bool{"outbox": true, "transfers": true, "entries": true, "stock_ledger": true, "parked_log": true, "relay_released": true}
	seen := map[string]string{}
	for service, files := range services() {
		for _, set := range sets(service, files) {
			of, err := migrate.Privileges(set.Files)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range of {
				if appendOnly[p.Object] && !strings.Contains(seen[p.Object], p.Verb) {
					seen[p.Object] += p.Verb + " "
				}
			}
		}
	}
	for table := range appendOnly {
		if seen[table] != "select insert " {
			t.Errorf("table %s: %q, want select and insert alone", table, seen[table])
		}
	}
}

func TestGrant_Again_TakesBackWhatIsNotInTheList(t *testing.T) {
	t.Parallel()
	owner, runtime, role := rolesOf(t, "payment", migrations.Payment())
	schema := query(t, owner, `select current_schema()::text`)[0]
	for _, s := range []string{"outbox, transfers, outbox_default", "sequence outbox_id_seq", "schema " + schema} {
		if _, err := owner.Exec(fmt.Sprintf(`grant all on %s to %s`, s, role)); err != nil {
			t.Fatal(err)
		}
	}
	// As in the schema public before Postgres 15.
	if _, err := owner.Exec(`grant create on schema ` + schema + ` to public`); err != nil {
		t.Fatal(err)
	}
	if _, err := owner.Exec(`grant update (amount) on entries to ` + role); err != nil {
		t.Fatal(err)
	}
	before := []bool{may(t, runtime, `delete from outbox`), may(t, runtime, `update entries set amount = 0 where false`), may(t, runtime, `create table x ()`)}
	if slices.Contains(before, false) {
		t.Fatalf("what is to be taken back was not there: %t", before)
	}
	grant(t, owner, role, sets("payment", migrations.Payment())...)
	for _, s := range []string{
		`delete from outbox where false`, `update entries set amount = 0 where false`, `create table x ()`, `truncate outbox`, `select setval('outbox_id_seq', 1)`,
		`select from outbox_default`,
	} {
		if may(t, runtime, s) {
			t.Errorf("still allowed: %s", s)
		}
	}
	if !may(t, runtime, `select from outbox`) {
		t.Error("what is in the list was taken back, too")
	}
}

// TestRuntimeRole_Functions_KeepToTheirSchema puts a table of the same name where a search path would find it first.
func TestRuntimeRole_Functions_KeepToTheirSchema(t *testing.T) {
	t.Parallel()
	owner, runtime, _ := rolesOf(t, "order", migrations.Order())
	conn, err := runtime.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	schema := query(t, owner, `select current_schema()::text`)[0]
	for _, s := range []string{
		`create temp table outbox_reach (one boolean primary key default true, since timestamptz)`,
		fmt.Sprintf(`insert into %s.outbox (topic, key, sequence, event_id, type, headers, payload, created_at) values ('t', 'k', 1, 'e', 'x', '', '', '2000-01-01')`, schema),
		`set search_path = pg_temp, ` + schema,
		`select outbox_drop('2001-01-01', pg_current_snapshot())`,
	} {
		if _, err := conn.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if n := query(t, owner, `select count(*)::text from outbox_reach`); n[0] != "1" {
		t.Errorf("%s rows in the schema's own outbox_reach, want 1: the function was led to another table", n[0])
	}
}

// TestDefinerFunctions_AreForWhoIsGrantedThemAndKeepTheirPath looks at all functions that act for their owner.
func TestDefinerFunctions_AreForWhoIsGrantedThemAndKeepTheirPath(t *testing.T) {
	t.Parallel()
	owner, _, _ := rolesOf(t, "order", migrations.Order())
	definers := `from pg_proc where pronamespace = current_schema()::regnamespace and prosecdef`
	if all := query(t, owner, `select proname::text `+definers); len(all) != 3 {
		t.Errorf("functions that act for their owner: %v, want three", all)
	}
	if open := query(t, owner, `select proname::text `+definers+` and has_function_privilege('public', oid, 'execute')`); len(open) > 0 {
		t.Errorf("anybody may call %v", open)
	}
	if loose := query(t, owner, `select proname::text `+definers+` and proconfig is distinct from array['search_path=' || quote_ident(current_schema()) || ', pg_temp']`); len(loose) > 0 {
		t.Errorf("the callers choose the search path of %v", loose)
	}
}

func TestReady_SaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	ownerURL, runtimeURL := pgtest.Roles(t)
	u, _ := url.Parse(runtimeURL)
	owner, runtime := pgtest.Open(t, ownerURL).SQL(), pgtest.Open(t, runtimeURL).SQL()
	files := fstest.MapFS{"00001_a.sql": {Data: []byte("-- +goose Up\ncreate table a (n int);")}, "grants.txt": {Data: []byte("a select\n")}}
	newer := fstest.MapFS{"00002_b.sql": {Data: []byte("-- +goose Up\ncreate table b (n int);")}}
	for name, f := range files {
		newer[name] = f
	}
	set, later := migrate.Set{Table: "v", Files: files}, migrate.Set{Table: "v", Files: newer}
	missing := func(s migrate.Set, want string) {
		t.Helper()
		if err := migrate.Ready(t.Context(), runtime, s); !errors.Is(err, migrate.ErrMissing) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q is missing", err, want)
		}
	}
	if _, err := owner.Exec(`grant usage on schema ` + query(t, owner, `select current_schema()::text`)[0] + ` to ` + u.User.Username()); err != nil {
		t.Fatal(err)
	}
	missing(set, "table v")
	up(t, owner, set)
	missing(set, "table v")
	if _, err := owner.Exec(`grant select on v to ` + u.User.Username()); err != nil {
		t.Fatal(err)
	}
	missing(set, "select on table a")
	grant(t, owner, u.User.Username(), set)
	ready := func() {
		t.Helper()
		if err := migrate.Ready(t.Context(), runtime, set); err != nil {
			t.Error(err)
		}
	}
	ready()
	missing(later, "migration 2 of v")
	up(t, owner, later)
	ready() // an older binary goes on, and so does its -migrate
	up(t, owner, set)
}

func TestPrivileges_BadLine_IsNamed(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"orders", "orders all", "orders select; drop table x", "Orders select", "orders update (a; b)", "function f(x) run"} {
		_, err := migrate.Privileges(fstest.MapFS{"grants.txt": {Data: []byte("# list\n" + line)}})
		if err == nil || !strings.Contains(err.Error(), "grants.txt:2") {
			t.Errorf("%q: %v, want an error that names line 2", line, err)
		}
	}
}
