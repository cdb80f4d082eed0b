package migrate_test

import (
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"

	"pavane/migrations"
	"pavane/shared/migrate"
	"pavane/shared/pgtest"
)

func TestGrant_RoleThatCouldDoMore_IsRefused(t *testing.T) {
	t.Parallel()
	ownerURL, runtimeURL := pgtest.Roles(t)
	u, _ := url.Parse(runtimeURL)
	role := u.User.Username()
	owner := pgtest.Open(t, ownerURL).SQL()
	all := sets("order", migrations.Order())
	up(t, owner, all...)
	refused := func(role, want string) {
		t.Helper()
		if err := migrate.Grant(t.Context(), owner, role, all...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("role %s: %v, want an error that says %q", role, err, want)
		}
	}
	refused("no_such_role", "no such role")
	refused(strings.TrimSuffix(role, "_runtime")+"_owner", "everything")
	do := func(db *sql.DB, statement string) {
		t.Helper()
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	for _, c := range []struct{ give, take, want string }{
		{`grant delete on outbox to public`, `revoke delete on outbox from public`, "delete on table outbox"},
		{`grant update (sku) on products to public`, `revoke update (sku) on products from public`, "update (sku) on table products"},
		{`grant update (reason, chunk) on relay_parked to public`, `revoke update (reason, chunk) on relay_parked from public`, "update (chunk) on table relay_parked"},
		{`grant select (id) on outbox_default to public`, `revoke select (id) on outbox_default from public`, "select (id) on table outbox_default"},
		{`grant update on sequence outbox_id_seq to public`, `revoke update on sequence outbox_id_seq from public`, "update on sequence outbox_id_seq"},
		{`grant usage on sequence parked_log_id_seq to public`, `revoke usage on sequence parked_log_id_seq from public`, "usage on sequence parked_log_id_seq"},
		{`create function wipe(text) returns void language sql security definer as 'delete from outbox'`, `drop function wipe`, "execute on function wipe(text)"},
	} {
		do(owner, c.give)
		refused(role, c.want)
		do(owner, c.take)
	}
	admin, other := pgtest.Schema(t).SQL(), role+"_other"
	do(admin, `create role `+other)
	t.Cleanup(func() { do(admin, `drop owned by `+other+`; drop role `+other) })
	do(admin, fmt.Sprintf(`alter role %s noinherit; grant %s to %[1]s`, role, other)) // it would say set role first
	do(owner, `grant truncate on outbox to `+other)
	refused(role, "truncate on table outbox")
	if has := query(t, owner, `select has_table_privilege($1, 'orders', 'select')::text`, role); has[0] != "false" {
		t.Error("a refused grant has left something behind")
	}
	do(owner, `revoke truncate on outbox from `+other)
	grant(t, owner, role, all...)
}

// A list that was not embedded would else show as a service that is ready and may do nothing.
func TestGrant_SetWithoutAList_IsRefusedAndNamed(t *testing.T) {
	t.Parallel()
	ownerURL, runtimeURL := pgtest.Roles(t)
	u, _ := url.Parse(runtimeURL)
	owner, role := pgtest.Open(t, ownerURL).SQL(), u.User.Username()
	files := fstest.MapFS{"00001_a.sql": {Data: []byte("-- +goose Up\ncreate table a (n int);")}}
	set := migrate.Set{Table: "v", Files: files}
	up(t, owner, set)
	if err := migrate.Grant(t.Context(), owner, role, set); err == nil || !strings.Contains(err.Error(), "v: no grants.txt beside its migrations") {
		t.Errorf("granted by no list: %v", err)
	}
	files["grants.txt"] = &fstest.MapFile{}
	grant(t, owner, role, set)
}
