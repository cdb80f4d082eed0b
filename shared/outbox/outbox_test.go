package outbox_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

type told struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

func (told) Kind() string  { return "fact.told.v1" }
func (e told) Key() string { return e.ID }

type stray struct{ told }

func (stray) Kind() string { return "elsewhere.told.v1" }

func setup(t *testing.T) (*postgres.DB, *outbox.Outbox) {
	t.Helper()
	t.Parallel()
	db := pgtest.WithKit(t)
	out, err := outbox.New(outbox.Config{Source: "/test", Topics: event.Topics{"fact": "facts.v1"}, MaxBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return db, out
}

func count(t *testing.T, db *postgres.DB) (n int) {
	t.Helper()
	if err := db.SQL().QueryRowContext(t.Context(), `select count(*) from outbox`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAppend_RollsBackWithTheChange(t *testing.T) {
	db, out := setup(t)
	stop := errors.New("stop")
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if err := out.Append(ctx, tx, event.Number(1, told{ID: "a"})...); err != nil {
			return err
		}
		return stop
	})
	if !errors.Is(err, stop) || count(t, db) != 0 {
		t.Errorf("err %v, %d rows; want stop and none", err, count(t, db))
	}
	select {
	case <-out.Wake():
		t.Error("a rolled back append wakes the relay")
	default:
	}
}

func TestAppend_ManyEvents_KeepTheirOrderAndWakeTheRelay(t *testing.T) {
	db, out := setup(t)
	cause := event.Envelope{ID: "cause", CorrelationID: "saga", TraceParent: "trace"}
	err := db.InTx(event.WithCause(t.Context(), cause), func(ctx context.Context, tx *sqlx.Tx) error {
		return out.Append(ctx, tx, event.Number(7, told{ID: "a", Text: "1"}, told{ID: "a", Text: "2"}, told{ID: "a", Text: "3"})...)
	})
	if err != nil {
		t.Fatal(err)
	}
	<-out.Wake()
	rows, err := db.SQL().QueryContext(t.Context(), `select topic, key, sequence, headers, payload from outbox order by id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := int64(0)
	for ; rows.Next(); n++ {
		var (
			topic, key       string
			sequence         int64
			headers, payload []byte
		)
		if err := rows.Scan(&topic, &key, &sequence, &headers, &payload); err != nil {
			t.Fatal(err)
		}
		parsed, err := event.ParseHeaders(headers)
		if err != nil {
			t.Fatal(err)
		}
		e, err := event.Decode([]byte(key), parsed, payload)
		if err != nil {
			t.Fatal(err)
		}
		if topic != "facts.v1" || sequence != 7+n || e.Sequence != 7+n || e.CausationID != "cause" || e.CorrelationID != "saga" || e.TraceParent != "trace" {
			t.Errorf("row %d: topic %s, sequence %d, envelope %+v", n, topic, sequence, e)
		}
	}
	if n != 3 || rows.Err() != nil {
		t.Errorf("%d rows, %v; want 3", n, rows.Err())
	}
}

func TestAppend_BadEvent_IsRefusedAndChangesNothing(t *testing.T) {
	db, out := setup(t)
	for name, events := range map[string][]event.Numbered{
		"no topic":    event.Number(1, stray{told{ID: "a"}}),
		"no key":      event.Number(1, told{}),
		"no sequence": event.Number(0, told{ID: "a"}),
		"too large":   event.Number(1, told{ID: "a", Text: strings.Repeat("x", 1000)}),
		"not dense":   {{Event: told{ID: "a"}, Sequence: 1}, {Event: told{ID: "a"}, Sequence: 3}},
	} {
		err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return out.Append(ctx, tx, events...) })
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if n := count(t, db); n != 0 {
		t.Errorf("%d rows, want none", n)
	}
}
