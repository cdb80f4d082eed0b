package migrate_test

import (
	"slices"
	"testing"

	"pavane/migrations"
)

// TestRuntimeRole_DropsWhatItLikes_RowsOfTodayAndLaterStay calls the functions as no relay does. A row of days ago goes:
// whether it was published is for the caller to know.
func TestRuntimeRole_DropsWhatItLikes_RowsOfTodayAndLaterStay(t *testing.T) {
	t.Parallel()
	owner, runtime, _ := rolesOf(t, "order", migrations.Order())
	insert := func(at string) {
		t.Helper()
		_, err := runtime.ExecContext(t.Context(), `insert into outbox (topic, key, sequence, event_id, type, headers, payload, created_at)
values ('t', 'k', 1, 'e', 'x', '', '', `+at+`)`)
		if err != nil {
			t.Fatal(err)
		}
	}
	insert(`clock_timestamp()`)
	insert(`clock_timestamp() + interval '1 day'`)
	insert(`clock_timestamp() + interval '9 days'`) // in the default partition
	before := query(t, owner, `select id::text from outbox order by id`)
	for range 5 {
		query(t, runtime, `select coalesce(outbox_drop('infinity', pg_current_snapshot()), '')`)
	}
	if after := query(t, owner, `select id::text from outbox order by id`); !slices.Equal(after, before) {
		t.Errorf("of the rows %v of today and later, %v are left", before, after)
	}
	if _, err := owner.ExecContext(t.Context(), `truncate outbox`); err != nil {
		t.Fatal(err)
	}
	insert(`clock_timestamp() - interval '2 days'`)
	if dropped := query(t, runtime, `select coalesce(outbox_drop(null, pg_current_snapshot()), '')`); dropped[0] != "" {
		t.Errorf("dropped %q before no time at all", dropped)
	}
	if dropped := query(t, runtime, `select coalesce(outbox_drop('infinity', pg_current_snapshot()), '')`); dropped[0] != "outbox_default" {
		t.Errorf("dropped %q, want outbox_default, whose row is of the day before yesterday", dropped)
	}
}

// TestRuntimeRole_MakesPartitionsForYears_GetsAMonth would else have every look at the outbox go through all of them.
func TestRuntimeRole_MakesPartitionsForYears_GetsAMonth(t *testing.T) {
	t.Parallel()
	owner, runtime, _ := rolesOf(t, "order", migrations.Order())
	query(t, runtime, `select outbox_extend(400)::text`)
	if n := query(t, owner, `select count(*)::text from pg_inherits where inhparent = 'outbox'::regclass`); n[0] != "33" {
		t.Errorf("the outbox has %s partitions, want today's, those of 31 days and the default", n[0])
	}
}
