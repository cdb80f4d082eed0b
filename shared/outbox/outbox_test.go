package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/migrations"
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

func appendAll(t *testing.T, db *postgres.DB, out *outbox.Outbox, events ...event.Numbered) {
	t.Helper()
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return out.Append(ctx, tx, events...) })
	if err != nil {
		t.Fatal(err)
	}
}

// stored reads the outbox back as a consumer would get it.
func stored(t *testing.T, db *postgres.DB) []event.Envelope {
	t.Helper()
	var rows []struct {
		Topic            string `db:"topic"`
		Key              string `db:"key"`
		Sequence         int64  `db:"sequence"`
		EventID          string `db:"event_id"`
		Type             string `db:"type"`
		Headers, Payload []byte
		CreatedAt        time.Time `db:"created_at"`
	}
	if err := db.Select(t.Context(), &rows, `select topic, key, sequence, event_id, type, headers, payload, created_at from outbox order by id`); err != nil {
		t.Fatal(err)
	}
	envelopes := make([]event.Envelope, len(rows))
	for i, r := range rows {
		row := event.Stored{ID: []byte(r.EventID), Kind: []byte(r.Type), Key: []byte(r.Key), Sequence: r.Sequence, Time: r.CreatedAt, Extra: r.Headers}
		headers, err := row.Headers()
		if err != nil {
			t.Fatal(err)
		}
		if envelopes[i], err = event.Decode([]byte(r.Key), headers, r.Payload); err != nil {
			t.Fatal(err)
		}
		if r.Topic != "facts.v1" || r.Sequence != envelopes[i].Sequence {
			t.Errorf("row %d: topic %s, sequence %d, want those of %+v", i, r.Topic, r.Sequence, envelopes[i])
		}
	}
	return envelopes
}

func TestAppend_ManyEvents_KeepTheirOrderAndWakeTheRelay(t *testing.T) {
	db, out := setup(t)
	appendAll(t, db, out, event.Number(7, told{ID: "a", Text: "1"}, told{ID: "a", Text: "2"}, told{ID: "a", Text: "3"})...)
	<-out.Wake()
	rows := stored(t, db)
	for i, e := range rows {
		if want := fmt.Sprintf(`{"id":"a","text":"%d"}`, i+1); e.Sequence != int64(i)+7 || string(e.Data) != want {
			t.Errorf("row %d: sequence %d, data %s; want %d, %s", i, e.Sequence, e.Data, i+7, want)
		}
	}
	if len(rows) != 3 {
		t.Errorf("%d rows, want 3", len(rows))
	}
}

// A relay of another process sleeps; it is woken by the statement itself.
func TestStatements_RelayOfAnotherProcessSleeps_RingTheBell(t *testing.T) {
	_, out := setup(t)
	url := pgtest.Database(t)
	db := pgtest.Open(t, url)
	pgtest.Migrate(t, db, migrations.Kit())
	bell, err := postgres.OpenBell(postgres.Config{URL: url}, "outbox")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bell.Close() })
	appends := func(id string, texts ...string) func() {
		return func() { appendAll(t, db, out, event.Number(1, facts(id, texts...)...)...) }
	}
	changes := func(id string, texts ...string) func() {
		return func() {
			if changed, err := change(t, db, out, facts(id, texts...), `select 1`); err != nil || !changed {
				t.Fatalf("changed %t, %v", changed, err)
			}
		}
	}
	for what, write := range map[string]func(){
		"one": appends("one", "1"), "many": appends("many", "1", "2"),
		"one that is changed": changes("one", "1"), "many that are": changes("many", "1", "2"),
	} {
		await.True(t, 30*time.Second, "the bell is heard and nobody is at work", func() bool {
			asleep, err := bell.Sleep(t.Context())
			return err == nil && asleep
		})
		select { // the ring that proved the bell
		case <-bell.Rung():
		default:
		}
		write()
		select {
		case <-bell.Rung():
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: the statement did not ring", what)
		}
		if err := bell.Wake(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAppend_EventsOfOneStatement_NameEachItsOwnCause(t *testing.T) {
	db, out := setup(t)
	cause := event.Envelope{ID: "cause", CorrelationID: "saga", TraceParent: "trace"}
	appendAll(t, db, out,
		event.Numbered{Event: told{ID: "a"}, Sequence: 1, Cause: &cause},
		event.Numbered{Event: told{ID: "b"}, Sequence: 1},
		event.Numbered{Event: told{ID: "c"}, Sequence: 1, Cause: &event.Envelope{ID: "other"}})
	var got []string
	for _, e := range stored(t, db) {
		got = append(got, fmt.Sprintf("%s: %q %q %q", e.Key, e.CausationID, e.CorrelationID, e.TraceParent))
	}
	want := []string{`a: "cause" "saga" "trace"`, `b: "" "b" ""`, `c: "other" "c" ""`}
	if !slices.Equal(got, want) {
		t.Errorf("cause, correlation and trace are\n%q\nwant\n%q", got, want)
	}
}

type unversioned struct{ told }

func (unversioned) Kind() string { return "told.it" }

func TestNew_ConfigThatRefusesEveryEvent_IsRefused(t *testing.T) {
	t.Parallel()
	sound := func() outbox.Config {
		return outbox.Config{Source: "/test", Topics: event.Topics{"fact": "facts.v1"}, MaxBytes: 1}
	}
	if _, err := outbox.New(sound()); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*outbox.Config){
		`source ""`:   func(c *outbox.Config) { c.Source = "" },
		"0 topics":    func(c *outbox.Config) { c.Topics = nil },
		"MaxBytes=-1": func(c *outbox.Config) { c.MaxBytes = -1 },
	} {
		cfg := sound()
		spoil(&cfg)
		if _, err := outbox.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
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
		// What no reader could decode, and so nobody could mend.
		"no version":   event.Number(1, unversioned{told{ID: "a"}}),
		"long key":     event.Number(1, told{ID: strings.Repeat("k", 2000)}),
		"NUL in a key": event.Number(1, told{ID: "a\x00"}),
		"long cause":   {{Event: told{ID: "a"}, Sequence: 1, Cause: &event.Envelope{ID: strings.Repeat("c", 2001)}}},
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
