package relay

import (
	"errors"
	"testing"

	"pavane/shared/broker"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

// A chunk goes out again only while the journal's head is that very one. Each of
// these, on its own, makes it another: what is sent would take the place of the
// rows that the journal now has under that number, or come twice.
func TestStillOurs_JournalHasAnotherHead_IsOvertaken(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"nothing":                  `select 1`,
		"a later chunk":            `insert into relay_journal select (jsonb_populate_record(j, '{"chunk": 2}')).* from relay_journal j`,
		"none at all":              `delete from relay_journal`,
		"acknowledged":             `insert into relay_ack (chunk, acked_at, offsets) values (1, now(), '{}')`,
		"another producer":         `update relay_journal set producer_id = 8`,
		"another epoch":            `update relay_journal set producer_epoch = 1`,
		"a life that began since":  `update relay_incarnation set id = gen_random_uuid()`,
		"a life that nobody knows": `delete from relay_incarnation`,
		"rows of another look":     `update relay_journal set target_xid = '12345'`,
		"rows up to another one":   `update relay_journal set upto_id = 11`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := planned(t)
			if _, err := r.cfg.DB.SQL().Exec(change); err != nil {
				t.Fatal(err)
			}
			if err := r.stillOurs(t.Context()); errors.Is(err, errOvertaken) == (name == "nothing") || err != nil && !errors.Is(err, errOvertaken) {
				t.Errorf("stillOurs = %v", err)
			}
		})
	}
}

// How far others have brought the chunk is taken over, so that this relay sends
// the same pieces.
func TestStillOurs_OthersBroughtItFurther_TakesThatOver(t *testing.T) {
	t.Parallel()
	r := planned(t)
	other, err := loadHead(t.Context(), r.cfg.DB)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := other.change(t.Context(), r.cfg.DB, parkSQL, "t/0", progress{Size: 5}, 9, "key", "t", 10, "too large"); !ok || err != nil {
		t.Fatalf("park: %t, %v", ok, err)
	}
	if err := r.stillOurs(t.Context()); err != nil || r.head.counts["t/0"] != 9 || r.head.progress["t/0"].Size != 5 {
		t.Errorf("stillOurs = %v; of the head it knows %v and %v, want 9 records left and pieces of 5", err, r.head.counts, r.head.progress)
	}
}

// planned is a relay whose first chunk is in the journal and not in the log.
func planned(t *testing.T) *Relay {
	t.Helper()
	return plannedIn(t, pgtest.WithKit(t))
}

func plannedIn(t *testing.T, db *postgres.DB) *Relay {
	t.Helper()
	life, err := incarnation(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	c := &chunk{
		number: 1, prev: origin(), target: position{snapshot: "3:3:"}, upto: 10, rows: 10, last: true, producer: broker.Producer{ID: 7},
		first: map[string]int32{"t/0": 0}, counts: map[string]int{"t/0": 10}, incarnation: life,
	}
	if ok, err := c.insert(t.Context(), db, &chunk{}, nil, 0); !ok || err != nil {
		t.Fatalf("plan: %t, %v", ok, err)
	}
	return &Relay{cfg: Config{DB: db}, head: c, incarnation: life}
}
