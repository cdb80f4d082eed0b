package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"pavane/migrations"
	"pavane/shared/broker"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/outbox"
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

// nowhere is the URL of a server that is not there.
const nowhere = "postgres://user:secret@127.0.0.1:1/"

// oneHere is three services, of which only the one in the middle has a database.
func oneHere(t *testing.T) []place {
	t.Helper()
	url := pgtest.URL(t)
	pgtest.Migrate(t, pgtest.Open(t, url), migrations.Kit())
	return []place{{"order-svc", "orders", nowhere + "orders"}, {"payment-svc", "payments", url}, {"inventory-svc", "inventory", nowhere + "inventory"}}
}

// wantUnread holds that an error has one line for each service.
func wantUnread(t *testing.T, err error, services ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error, though databases were away")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(services) {
		t.Fatalf("the error is %q; want a line for each of %v", err, services)
	}
	for i, service := range services {
		if !strings.HasPrefix(lines[i], service+": not reachable: ") || strings.Contains(lines[i], "secret") {
			t.Errorf("line %q; want that %s is not reachable", lines[i], service)
		}
	}
}

func TestOutboxStatus_DatabasesAway_ShowsTheOthersAndNamesEachThatFailed(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := outboxStatus(t.Context(), &out, oneHere(t))
	wantUnread(t, err, "order-svc", "inventory-svc")
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 2 || !strings.HasPrefix(lines[1], "payment-svc  0 ") {
		t.Errorf("printed:\n%s\nwant the head and the line of payment-svc", out.String())
	}
}

func TestSagaShow_DatabasesAway_TellsWhatTheOthersKnow(t *testing.T) {
	t.Parallel()
	all := oneHere(t)
	o, err := outbox.New(outbox.Config{Source: "/payment-svc", Topics: event.Topics{"payment": "payments"}})
	if err != nil {
		t.Fatal(err)
	}
	err = pgtest.Open(t, all[1].url).InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		return o.Append(ctx, tx, event.Number(1, contract.PaymentVoided{OrderID: "o-1"})...)
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = sagaShow(t.Context(), &out, "o-1", 6, all)
	wantUnread(t, err, "order-svc", "inventory-svc")
	if !strings.Contains(out.String(), "#1 payment.voided.v1") {
		t.Errorf("told:\n%s\nwant the event of payment-svc", out.String())
	}
	wantUnread(t, sagaShow(t.Context(), &out, "o-2", 6, all), "order-svc", "inventory-svc")
}

func TestParked_DatabasesAway_JSONStaysWholeAndSaysOfWhom(t *testing.T) {
	t.Parallel()
	services := []string{"order-svc", "payment-svc", "inventory-svc", "notification-svc"}
	for _, line := range []string{"parked list --json", "parked show o-1 --json"} {
		c := root()
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetArgs(append(strings.Fields(line), "--postgres", nowhere))
		wantUnread(t, c.ExecuteContext(t.Context()), services...)
		var list []struct{ Service, Error string }
		if err := json.Unmarshal(out.Bytes(), &list); err != nil || len(list) != len(services) {
			t.Fatalf("pavane %s: %v in\n%s\nwant one element for each service", line, err, out.String())
		}
		for i, e := range list {
			if e.Service != services[i] || !strings.HasPrefix(e.Error, "not reachable: ") {
				t.Errorf("pavane %s: %+v; want that %s is not reachable", line, e, services[i])
			}
		}
	}
}

func TestParkedList_DatabasesAway_PrintsWhatIsKnownAndNotThatNothingIsParked(t *testing.T) {
	t.Parallel()
	c := root()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetArgs([]string{"parked", "list", "--service", "payment-svc", "--postgres", nowhere})
	wantUnread(t, c.ExecuteContext(t.Context()), "payment-svc")
	if out.Len() > 0 {
		t.Errorf("printed %q of what nobody could look at", out.String())
	}
}

func TestDatabases_WrongOnTheCommandLine_IsRefusedAndShowsNoPassword(t *testing.T) {
	t.Parallel()
	for says, flags := range map[string][]string{
		"want SERVICE=URL":                              {"--database", "order-svc"},
		`service "orders": choose one of`:               {"--database", "orders=postgres://u:secret@h/orders"},
		`service "order-svc" is given twice`:            {"--database", "order-svc=" + nowhere, "--database", "order-svc=" + nowhere},
		"nothing runs in " + filepath.Join("/", "none"): {"--database", "order-svc=" + nowhere, "--dir", "/none"},
	} {
		c := root()
		c.SetOut(io.Discard)
		c.SetErr(io.Discard)
		c.SetArgs(append([]string{"outbox", "status"}, flags...))
		if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v; want %q and no password", flags[0], err, says)
		}
	}
}

func TestDatabases_OnServersOfTheirOwn_EachIsAskedThere(t *testing.T) {
	t.Parallel()
	all := oneHere(t)
	c := root()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetArgs([]string{"outbox", "status", "--postgres", nowhere, "--database", "payment-svc=" + all[1].url})
	wantUnread(t, c.ExecuteContext(t.Context()), "order-svc", "inventory-svc", "notification-svc")
	if !strings.Contains(out.String(), "payment-svc  0 ") {
		t.Errorf("printed:\n%s\nwant the line of payment-svc", out.String())
	}
}
