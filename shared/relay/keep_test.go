package relay

import (
	"context"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/pgtest"
)

// An outage of Kafka may last longer than rows are kept.
func TestMaintain_WaitingRow_IsKeptWhateverItsAge(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	written := time.Date(2020, 2, 2, 0, 0, 0, 0, time.UTC)
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, `insert into outbox (topic, key, sequence, event_id, type, headers, payload, created_at)
values ('t', 'k', 1, 'e', 'a.b.v1', '\x00', '\x00', $1)`, written)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{cfg: Config{DB: db, Retention: time.Hour}}
	keep, _, err := r.keepFrom(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if keep.After(written) {
		t.Errorf("rows are kept from %v on; one of %v has not been published", keep, written)
	}
}
