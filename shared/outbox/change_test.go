package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"pavane/internal/faultproxy"
	"pavane/migrations"
	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

const upsertSQL = `insert into facts (id, version) values ($1, 1) on conflict (id) do update set version = facts.version + 1 returning version`

func withFacts(t *testing.T) (*postgres.DB, *outbox.Outbox) {
	t.Helper()
	db, out := setup(t)
	makeFacts(t, db)
	return db, out
}

func makeFacts(t *testing.T, db *postgres.DB) {
	t.Helper()
	if _, err := db.SQL().ExecContext(t.Context(), `create table facts (id text primary key, version integer not null)`); err != nil {
		t.Fatal(err)
	}
}

// throughProxy starts a proxy before the database at address, and returns the address
// that leads through it.
func throughProxy(t testing.TB, address string) (p *faultproxy.Proxy, through string) {
	t.Helper()
	at, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = faultproxy.Start(faultproxy.Config{Protocol: faultproxy.Postgres, Target: at.Host}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	at.Host = p.Addr()
	return p, at.String()
}

func change(t *testing.T, db *postgres.DB, out *outbox.Outbox, events []event.Event, statement string, args ...any) (changed bool, err error) {
	t.Helper()
	err = db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		changed, err = out.Change(ctx, tx, events, statement, args...)
		return err
	})
	return changed, err
}

func facts(id string, texts ...string) (events []event.Event) {
	for _, text := range texts {
		events = append(events, told{ID: id, Text: text})
	}
	return events
}

func TestChange_RowIsChanged_ItsVersionNumbersTheEvents(t *testing.T) {
	db, out := withFacts(t)
	for _, c := range []struct {
		events    []event.Event
		statement string
	}{
		{facts("a", "1"), upsertSQL},
		{facts("a", "2", "3", "4"), "update facts set version = version + 3 where id = $1 returning version - 2"},
		{facts("a", "5"), "with it as (select $1 as id) update facts set version = version + 1 from it where it.id = facts.id returning version -- the new one"},
	} {
		if changed, err := change(t, db, out, c.events, c.statement, "a"); err != nil || !changed {
			t.Fatalf("%s: changed %t, %v", c.statement, changed, err)
		}
		<-out.Wake()
	}
	for i, e := range stored(t, db) {
		if want := fmt.Sprintf(`{"id":"a","text":"%d"}`, i+1); e.Sequence != int64(i)+1 || e.Key != "a" || string(e.Data) != want {
			t.Errorf("row %d: sequence %d of key %s, data %s; want %s", i, e.Sequence, e.Key, e.Data, want)
		}
	}
	if n := count(t, db); n != 5 {
		t.Errorf("%d rows, want 5", n)
	}
}

func TestChange_NoRowIsChanged_TellsNothing(t *testing.T) {
	db, out := withFacts(t)
	for _, texts := range [][]string{{"one"}, {"one", "two"}} {
		for _, statement := range []string{
			"update facts set version = version + 1 where id = $1 returning version",
			"insert into facts select $1, 1 where false on conflict do nothing returning version",
		} {
			if changed, err := change(t, db, out, facts("a", texts...), statement, "a"); err != nil || changed {
				t.Errorf("%s: changed %t, %v; want false", statement, changed, err)
			}
		}
	}
	select {
	case <-out.Wake():
		t.Error("the relay is woken")
	default:
	}
	if n := count(t, db); n != 0 {
		t.Errorf("%d rows, want none", n)
	}
}

func TestChange_RollsBackWithTheTransaction(t *testing.T) {
	db, out := withFacts(t)
	stop := errors.New("stop")
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if changed, err := out.Change(ctx, tx, facts("a", "1"), upsertSQL, "a"); err != nil || !changed {
			return fmt.Errorf("changed %t, %w", changed, err)
		}
		return stop
	})
	if !errors.Is(err, stop) || count(t, db) != 0 {
		t.Errorf("err %v, %d rows; want stop and none", err, count(t, db))
	}
}

// Writers of one key meet at its row, so each takes its number and its place in the
// outbox while it holds the row.
func TestChange_ManyAtOnce_NumbersAreDenseAndInOrder(t *testing.T) {
	const writers, each = 6, 20
	db, out := withFacts(t)
	var group errgroup.Group
	for range writers {
		group.Go(func() error {
			for range each {
				if changed, err := change(t, db, out, facts("a", "x"), upsertSQL, "a"); err != nil || !changed {
					return fmt.Errorf("changed %t, %w", changed, err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	rows := stored(t, db)
	for i, e := range rows {
		if e.Sequence != int64(i)+1 {
			t.Fatalf("row %d by id has sequence %d", i, e.Sequence)
		}
	}
	if len(rows) != writers*each {
		t.Errorf("%d rows, want %d", len(rows), writers*each)
	}
}

func TestChangeNow_RowIsChangedOrNot_TellsOfItAtOnce(t *testing.T) {
	db, out := withFacts(t)
	const first = "insert into facts values ($1, 1) on conflict do nothing returning version"
	for i, want := range []bool{true, false} {
		changed, err := out.ChangeNow(t.Context(), db, facts("a", "1", "2"), first, "a")
		if err != nil || changed != want {
			t.Errorf("time %d: changed %t, %v; want %t", i+1, changed, err, want)
		}
	}
	<-out.Wake()
	select {
	case <-out.Wake():
		t.Error("the relay is woken twice")
	default:
	}
	if rows := stored(t, db); len(rows) != 2 || rows[0].Sequence != 1 || rows[1].Sequence != 2 {
		t.Errorf("the rows are %+v, want the numbers 1 and 2", rows)
	}
}

// What the network makes of it may have happened or not, but never twice and never
// without its event.
func TestChangeNow_AnswerLost_StandsOnceOrNotAtAll(t *testing.T) {
	_, out := setup(t)
	address := pgtest.Database(t)
	direct := pgtest.Open(t, address)
	pgtest.Migrate(t, direct, migrations.Kit())
	makeFacts(t, direct)
	p, through := throughProxy(t, address)
	db, err := postgres.Open(postgres.Config{URL: through, NetworkTimeout: 5 * time.Second}) // an answer that is not lost comes sooner
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	want := int64(0)
	for _, fault := range []faultproxy.Fault{"", faultproxy.Drop, faultproxy.Cut, faultproxy.CutBefore} {
		if fault != "" {
			p.Arm("WITH", 1, fault, 0)
		}
		changed, err := out.ChangeNow(t.Context(), db, facts("a", "x"), upsertSQL, "a")
		if lost := fault != ""; lost != errors.Is(err, postgres.ErrCommitUnknown) || changed == lost {
			t.Errorf("%q: changed %t, %v", fault, changed, err)
		}
		if fault != faultproxy.CutBefore {
			want++
		}
		var version int64
		if err := direct.Get(t.Context(), &version, `select version from facts`); err != nil || version != want || int64(len(stored(t, direct))) != want {
			t.Errorf("%q: version %d and %d events, %v; want %d of both", fault, version, len(stored(t, direct)), err, want)
		}
	}
}

func TestChange_BadUse_IsRefusedAndChangesNothing(t *testing.T) {
	db, out := withFacts(t)
	if _, err := db.SQL().ExecContext(t.Context(), `insert into facts values ('a', 0), ('b', 0)`); err != nil {
		t.Fatal(err)
	}
	const raise = "update facts set version = version + 1 where id = $1 returning version"
	for _, c := range []struct {
		says      string
		events    []event.Event
		statement string
		args      []any
	}{
		{"without an event", nil, raise, []any{"a"}},
		{`keys "a" and "b"`, append(facts("a", "1"), facts("b", "2")...), raise, []any{"a"}},
		{"limit is", facts("a", strings.Repeat("x", 1000)), raise, []any{"a"}},
		{"highest parameter is $1, and it is given 0", facts("a", "1"), raise, nil},
		{"highest parameter is $1, and it is given 2", facts("a", "1"), raise, []any{"a", "b"}},
		{"more than one row returned", facts("a", "1"), "update facts set version = version + 1 returning version", nil},
		{"more than one row returned", facts("a", "1", "2"), "update facts set version = version + 2 returning version - 1", nil},
		{`null value in column "sequence"`, facts("a", "1"), "update facts set version = version where id = $1 returning version", []any{"a"}},
		{`null value in column "sequence"`, facts("a", "1", "2"), "update facts set version = version + 1 where id = $1 returning version - 1", []any{"a"}},
		{"syntax error", facts("a", "1"), "update facts set version = version + 1 where id = $1 returning version;", []any{"a"}},
	} {
		changed, err := change(t, db, out, c.events, c.statement, c.args...)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: changed %t, %v; want an error with %q", c.statement, changed, err, c.says)
		}
		changed, err = out.ChangeNow(t.Context(), db, c.events, c.statement, c.args...)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s, now: changed %t, %v; want an error with %q", c.statement, changed, err, c.says)
		}
	}
	var version int
	if err := db.Get(t.Context(), &version, `select max(version) from facts`); err != nil || version != 0 || count(t, db) != 0 {
		t.Errorf("version %d, %d rows, %v; want nothing changed", version, count(t, db), err)
	}
}
