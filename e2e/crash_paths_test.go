package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"pavane/internal/await"
)

// act is what happens to the orders of a path from outside.
type act int

const (
	nothing act = iota
	cancels     // the customer cancels them
	tooLate     // the customer cancels them when they are confirmed
	expires     // their deadline comes
	faults      // inventory-svc cannot handle them for a while
)

// sagaPath is one way through the saga, and how to take it without luck: where
// it needs a service to be late, that service's consumer is held back until the
// act is done.
type sagaPath struct {
	name          string
	customer, sku string
	card          string   // token; empty: paid from the wallet
	hold          []string // databases of the services held back
	until         string   // the event that must be published before the act
	act           act
	ends          []string // one of which it comes to; more than one where two topics race
	publish       []string // services beside order-svc that surely publish
}

func sagaPaths() []sagaPath {
	const fulfilled = "confirmed captured shipped"
	both, stock := []string{"payment-svc", "inventory-svc"}, []string{"inventory-svc"}
	early := func(reason string) []string {
		return []string{"cancelled " + reason + " released", "cancelled " + reason + " voided released"}
	}
	return []sagaPath{
		{name: "confirmed", customer: wealthy, sku: "tea-green", ends: []string{fulfilled}, publish: both},
		{name: "out of stock", customer: wealthy, sku: soldOut, ends: []string{"cancelled out_of_stock"}, publish: stock},
		{name: "declined", customer: poor, sku: "tea-green", ends: []string{"cancelled payment_declined released"}, publish: both},
		{
			name: "cancelled before reservation", customer: "cust-02", sku: "mug-red", hold: []string{"inventory", "payments"}, act: cancels,
			ends: early("customer"), publish: stock,
		},
		{
			name: "cancelled before authorisation", customer: "cust-03", sku: "honey", hold: []string{"payments"}, until: "inventory.reserved", act: cancels,
			ends: early("customer"), publish: stock,
		},
		{
			name: "cancelled after authorisation", customer: "cust-04", sku: "tin", hold: []string{"orders"}, until: "payment.authorized", act: cancels,
			ends: []string{"cancelled customer voided released"}, publish: both,
		},
		{name: "cancelled too late", customer: "cust-05", sku: "whisk", act: tooLate, ends: []string{fulfilled}, publish: both},
		{
			name: "deadline before authorisation", customer: "cust-06", sku: "tray", hold: []string{"payments"}, until: "inventory.reserved", act: expires,
			ends: early("deadline"), publish: stock,
		},
		{
			name: "deadline after authorisation", customer: "cust-07", sku: "biscuits", hold: []string{"orders"}, until: "payment.authorized", act: expires,
			ends: []string{"cancelled deadline voided released"}, publish: both,
		},
		{name: "card", customer: "cust-09", sku: "tea-green", card: "tok_ok", ends: []string{fulfilled}, publish: both},
		{
			name: "card, cancelled after holding", customer: "cust-10", sku: "tin", card: "tok_ok", hold: []string{"orders"}, until: "payment.authorized", act: cancels,
			ends: []string{"cancelled customer voided released"}, publish: both,
		},
		{name: "parked for a while", customer: "cust-08", sku: "mug-blue", act: faults, ends: []string{fulfilled}, publish: both},
	}
}

// body is the order to place.
func (p sagaPath) body() string {
	if p.card == "" {
		return body(p.customer, p.sku)
	}
	return fmt.Sprintf(`{"customer_id":%q,"payment_method":"card","card_token":%q,"items":[{"sku":%q,"quantity":1}]}`, p.customer, p.card, p.sku)
}

const (
	// faultSQL makes the reactions of inventory-svc fail that reserve stock.
	faultSQL = `create or replace function crash_fault() returns trigger language plpgsql as
$$ begin raise exception 'a fault that somebody will mend'; end $$;
create trigger crash_fault before insert on reservations for each row execute function crash_fault()`
	mendSQL = `drop trigger if exists crash_fault on reservations`
	// triedSQL waits until a record failed, and failed again after it was parked.
	triedSQL     = `select count(*) from parked where key = $1 and attempts > 2`
	publishedSQL = `select count(*) from outbox where key = $1 and type like $2 || '.v%'`
	// expireSQL lets the time pass until the order's deadline.
	expireSQL  = `update deadlines set due_at = clock_timestamp(), try_at = clock_timestamp() where order_id::text = $1`
	decidedSQL = `select count(*) from orders where order_id::text = $1 and state <> 'placed'`
)

// pair is how many orders take a path side by side.
const pair = 2

// travel takes a pair of orders along the path, up to where the rest follows by
// itself. placed is called when they are placed.
func (m *matrix) travel(p sagaPath, placed func()) []string {
	m.t.Helper()
	var release []func()
	for _, database := range p.hold {
		release = append(release, m.up.hold(database))
	}
	if p.act == faults {
		m.exec("inventory", mendSQL)
		m.exec("inventory", faultSQL)
	}
	ids := m.place(p)
	placed()
	if p.until != "" {
		word, _, _ := strings.Cut(p.until, ".")
		database := map[string]string{"inventory": "inventory", "payment": "payments"}[word]
		m.await(ids, database, p.until+" is committed", publishedSQL, p.until)
	}
	switch p.act {
	case cancels:
		m.cancel(ids, http.StatusOK)
	case tooLate:
		m.await(ids, "orders", "it is decided", decidedSQL)
		m.cancel(ids, http.StatusConflict)
	case expires:
		for _, id := range ids {
			m.exec("orders", expireSQL, id)
		}
		m.await(ids, "orders", "its deadline has come", decidedSQL)
	case faults:
		m.await(ids, "inventory", "it is parked and was tried again", triedSQL)
		m.exec("inventory", mendSQL)
	}
	for _, f := range release {
		f()
	}
	return ids
}

// place places the orders at the same time.
func (m *matrix) place(p sagaPath) []string {
	m.t.Helper()
	ids := make([]string, pair)
	var work errgroup.Group
	for i := range ids {
		m.placed++
		key := fmt.Sprintf("crash-matrix-%d", m.placed)
		work.Go(func() (err error) {
			ids[i], err = m.gw.Place(orderLimit, key, p.body())
			return err
		})
	}
	must(m.t, work.Wait())
	return ids
}

func (m *matrix) cancel(ids []string, status int) {
	m.t.Helper()
	for _, id := range ids {
		a, err := m.gw.Insist(orderLimit, http.MethodPost, "/v1/orders/"+id+"/cancel", "")
		must(m.t, err)
		if a.Status != status {
			m.t.Errorf("cancel order %s: %s, want %d", id, a, status)
		}
	}
}

// await waits until the statement counts something for each of the orders.
func (m *matrix) await(ids []string, database, what, statement string, more ...any) {
	m.t.Helper()
	for _, id := range ids {
		await.True(m.t, orderLimit, "order "+id+": "+what, func() bool {
			var n int
			read(m.t, m.up.database(database), func(ctx context.Context, tx *sqlx.Tx) error {
				return tx.GetContext(ctx, &n, statement, append([]any{id}, more...)...)
			})
			return n > 0
		})
	}
}

func (m *matrix) exec(database, statement string, args ...any) {
	m.t.Helper()
	must(m.t, m.up.database(database).InTx(m.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	}))
}

const (
	endsSQL = `select order_id::text as id, concat_ws(' ', state, reason, case when captured_at is not null then 'captured' end,
  case when shipped_at is not null then 'shipped' end, case when voided_at is not null then 'voided' end,
  case when released_at is not null then 'released' end) as words
from orders where order_id::text = any($1::text[])`
	toldSQL    = `select '/' || $2 || ' ' || key as id, max(sequence) as sequence from outbox where key = any($1::text[]) group by key`
	heardSQL   = `select source || ' ' || key as id, last_seq as sequence from inbox where key = any($1::text[])`
	waitingSQL = `select (select count(*) from relay_journal j where not exists (select from relay_ack a where a.chunk = j.chunk)) + (select count(*) from parked)`
	mailsSQL   = `select count(distinct order_id) filter (where state = 'sent') - count(*) filter (where state <> 'sent') from mails where order_id = any($1::text[])`
	askedSQL   = `select count(*) from charges where due and order_id = any($1::text[])`
	// hurryChargesSQL and hurrySQL let the time pass for which a claim holds, and the
	// pause after a failure.
	hurryChargesSQL = `update charges set next_at = clock_timestamp() where due and next_at > clock_timestamp()`
	hurrySQL        = `update mails set next_at = clock_timestamp() where state = 'pending' and next_at > clock_timestamp()`
)

// heard says whose events each service reads.
func heard() map[string][]string {
	return map[string][]string{
		"orders": {"/payment-svc", "/inventory-svc"}, "payments": {"/order-svc", "/inventory-svc"},
		"inventory": {"/order-svc", "/payment-svc"}, "notifications": {"/order-svc", "/payment-svc"},
	}
}

// unsettled says what the orders still wait for; empty when all they caused has
// come to its end everywhere.
func (m *matrix) unsettled(p sagaPath, ids []string) string {
	m.t.Helper()
	array := "{" + strings.Join(ids, ",") + "}"
	told := map[string]int64{}
	for i, database := range databases()[:3] {
		for id, n := range m.sequences(database, toldSQL, array, services()[i]) {
			told[id] = n
		}
	}
	for database, sources := range heard() {
		got := m.sequences(database, heardSQL, array)
		for id, n := range told {
			if source, _, _ := strings.Cut(id, " "); slices.Contains(sources, source) && got[id] != n {
				return fmt.Sprintf("%s has heard %d of %d events of %s", database, got[id], n, id)
			}
		}
		if n := m.number(database, waitingSQL); n != 0 {
			return fmt.Sprintf("%s: %d chunks or records wait", database, n)
		}
	}
	if n := m.number("notifications", mailsSQL, array); n != len(ids) {
		return fmt.Sprintf("%d of %d orders have all their mails sent", n, len(ids))
	}
	if n := m.number("payments", askedSQL, array); n != 0 {
		return fmt.Sprintf("%d charges are still to be asked for", n)
	}
	var orders []struct{ ID, Words string }
	read(m.t, m.up.database("orders"), func(ctx context.Context, tx *sqlx.Tx) error {
		orders = nil
		return tx.SelectContext(ctx, &orders, endsSQL, array)
	})
	for _, o := range orders {
		if !slices.Contains(p.ends, o.Words) {
			return fmt.Sprintf("order %s is %q, want one of %q", o.ID, o.Words, p.ends)
		}
	}
	if len(orders) != len(ids) {
		return fmt.Sprintf("%d of %d orders are there", len(orders), len(ids))
	}
	return ""
}

func (m *matrix) sequences(database, statement string, args ...any) map[string]int64 {
	m.t.Helper()
	var rows []struct {
		ID       string
		Sequence int64
	}
	read(m.t, m.up.database(database), func(ctx context.Context, tx *sqlx.Tx) error {
		rows = nil
		return tx.SelectContext(ctx, &rows, statement, args...)
	})
	found := make(map[string]int64, len(rows))
	for _, r := range rows {
		found[r.ID] = r.Sequence
	}
	return found
}

func (m *matrix) number(database, statement string, args ...any) (n int) {
	m.t.Helper()
	read(m.t, m.up.database(database), func(ctx context.Context, tx *sqlx.Tx) error {
		return tx.GetContext(ctx, &n, statement, args...)
	})
	return n
}

// settle waits until the orders have come to their end.
func (m *matrix) settle(p sagaPath, ids []string) {
	m.t.Helper()
	missing := ""
	hurry := time.Now()
	limit := time.NewTimer(settleLimit)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if missing = m.unsettled(p, ids); missing == "" {
			return
		}
		if time.Since(hurry) > time.Second {
			m.exec("notifications", hurrySQL)
			m.exec("payments", hurryChargesSQL)
			hurry = time.Now()
		}
		select {
		case <-tick.C:
		case <-limit.C:
			m.t.Fatalf("%s: after %s still not: %s", p.name, settleLimit, missing)
		}
	}
}
