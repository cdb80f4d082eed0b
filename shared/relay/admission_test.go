package relay_test

import (
	"context"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/shared/relay"
)

func TestAdmission_TooManyRowsWait_RefusesUntilTheyArePublished(t *testing.T) {
	b := setup(t)
	a, err := relay.NewAdmission(relay.AdmissionConfig{DB: b.pool, Rows: 20})
	must(t, err)
	look := func() bool {
		t.Helper()
		busy, err := a.Look(t.Context())
		must(t, err)
		return busy != nil
	}
	for range 30 { // numbers that nobody will publish
		tx := b.begin()
		must(t, b.append(t.Context(), tx, "lost", 1))
		must(t, tx.Rollback())
	}
	b.write("a", 19)
	if look() {
		t.Error("19 rows and rolled back ones are taken for 20")
	}
	b.write("b", 1)
	if !look() {
		t.Error("20 waiting rows are not too many")
	}
	must(t, b.relay(nil).Flush(t.Context()))
	if look() {
		t.Error("published rows are taken for waiting ones")
	}
	b.write("a", 19)
	if look() {
		t.Error("19 rows behind published ones are too many")
	}
}

func TestAdmission_Run_RefusesAndAdmitsAgain(t *testing.T) {
	b := setup(t)
	a, err := relay.NewAdmission(relay.AdmissionConfig{DB: b.pool, Rows: 10, Every: time.Millisecond})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	b.write("a", 12)
	await.True(t, wait, "it refuses", func() bool { return a.Admit() != nil })
	b.start(b.relay(nil))
	await.True(t, wait, "it admits again", func() bool { return a.Admit() == nil })
	cancel()
	must(t, <-done)
}

func TestAdmission_OldestRowTooOld_Refuses(t *testing.T) {
	b := setup(t)
	a, err := relay.NewAdmission(relay.AdmissionConfig{DB: b.pool, Age: time.Hour})
	must(t, err)
	for name, c := range map[string]struct {
		age  string
		want bool
	}{"young": {"59 minutes", false}, "old": {"61 minutes", true}} {
		must(t, b.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			if _, err := tx.ExecContext(ctx, `truncate outbox`); err != nil {
				return err
			}
			if err := b.append(ctx, tx, name, 1); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, `update outbox set created_at = created_at - $1::interval`, c.age)
			return err
		}))
		busy, err := a.Look(t.Context())
		must(t, err)
		if (busy != nil) != c.want {
			t.Errorf("%s: %v", name, busy)
		}
	}
}
