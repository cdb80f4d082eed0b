package main

import (
	"context"
	"os"
	"testing"

	"pavane/shared/broker"
	"pavane/shared/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// A Kafka that was emptied gives its producer ids out from the start.
func TestAdoptUnder_IDsThatTheJournalHasUsed_AsksForTheNextOne(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	for chunk, producer := range []int64{7, 8} {
		_, err := db.SQL().ExecContext(t.Context(), `insert into relay_journal (chunk, prev, prev_id, prev_xid, target, target_id, after_id, upto_id, row_count,
  last_of_set, producer_id, producer_epoch, first_sequences, counts, stamp_ms)
values ($1, '3:3:', 0, '0', pg_current_snapshot(), 0, 0, 0, 0, true, $2, 0, '{}', '{}', 0)`, chunk+1, producer)
		if err != nil {
			t.Fatal(err)
		}
	}
	id := int64(6)
	p, err := adoptUnder(t.Context(), db, func(context.Context) (broker.Producer, error) {
		id++
		return broker.Producer{ID: id}, nil
	})
	if err != nil || p.ID != 9 {
		t.Fatalf("adopted under producer %d, %v; want 9, the first that the journal has not used", p.ID, err)
	}
	var now int64
	if err := db.Get(t.Context(), &now, `select producer_id from relay_journal order by chunk desc limit 1`); err != nil || now != 9 {
		t.Errorf("the journal goes on under producer %d, %v; want 9", now, err)
	}
}
