package e2e_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"pavane/internal/await"
	"pavane/shared/event"
	"pavane/shared/parked"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

// secret is what a service of the demo is told in a file.
func (u *up) secret(name string) string {
	u.t.Helper()
	b, err := os.ReadFile(filepath.Join(u.Dir, "secrets", name))
	must(u.t, err)
	return string(b)
}

// asService opens a service's database as the role that the service runs as.
func (u *up) asService(database string) *postgres.DB {
	u.t.Helper()
	return pgtest.Open(u.t, u.secret(database+"-url"))
}

// redrive has the services let go what waits for a cause, as the page does, and
// returns how many keys that were.
func (u *up) redrive(cause string) int {
	u.t.Helper()
	a, err := u.Gateway().Do(http.MethodPost, "/v1/parked/redrive", `{"cause":"`+cause+`","why":"the test has mended it"}`, "X-Pavane-Operator", u.secret("operator-token"))
	must(u.t, err)
	var moved struct {
		Keys    int
		Missing []any
	}
	must(u.t, json.Unmarshal([]byte(a.Body), &moved))
	if a.Status != http.StatusOK || len(moved.Missing) > 0 {
		u.t.Fatalf("redrive of %s: %s", cause, a)
	}
	return moved.Keys
}

// waiting counts the keys that wait for somebody at a service.
func (u *up) waiting(database string) int {
	u.t.Helper()
	keys, err := parked.List(u.t.Context(), u.database(database), parked.Filter{})
	must(u.t, err)
	return len(keys)
}

// What an operator does with parked keys is done by the services, whose roles may
// do no more than they must. Nothing else has a service delete or change these
// rows. Old idempotency keys it deletes by itself.
func TestOperator_ServicesWithTheirOwnRolesAlone_ReleaseRedriveAndDiscard(t *testing.T) {
	t.Parallel()
	u := start(t, how{args: []string{"--no-orders"}})
	redriven(t, u)
	refused(t, u)
	tool(t, u.with(t), "break", "poison")
	for _, name := range databases()[1:] {
		u.await("poison waits in "+name, func() bool { return u.waiting(name) > 0 })
		u.discard(name)
	}
	keysRunOut(t, u)
	u.audit()
}

// keysRunOut: order-svc deletes idempotency keys that are a day old.
func keysRunOut(t *testing.T, u *up) {
	t.Helper()
	_, err := u.database("orders").SQL().Exec(`update idempotency set created_at = created_at - interval '24 hours'`)
	must(t, err)
	tool(t, u.with(t), "break", "restart", "order-svc") // it looks when it starts, and then each minute
	u.await("no idempotency key is left", func() bool { return u.count("orders", `select count(*) from idempotency`) == 0 })
}

func (u *up) await(what string, ok func() bool) {
	u.t.Helper()
	await.True(u.t, orderLimit, what, ok)
}

// redriven: a reaction fails, and its table comes back.
func redriven(t *testing.T, u *up) {
	t.Helper()
	db := u.database("notifications").SQL()
	id, err := u.Gateway().Place(orderLimit, "first", body("cust-05", "mug-red"))
	must(t, err)
	u.awaitMail(id) // a service that still starts would wait for the table
	_, err = db.Exec(`alter table addressees rename to addressees_away`)
	must(t, err)
	id, err = u.Gateway().Place(orderLimit, "redriven", body("cust-05", "mug-red"))
	must(t, err)
	u.await("the order waits at notification-svc", func() bool {
		return u.count("notifications", `select count(*) from parked where cause = 'fault'`) > 0
	})
	_, err = db.Exec(`alter table addressees_away rename to addressees`)
	must(t, err)
	n := 0
	u.await("nothing waits at notification-svc", func() bool {
		n += u.redrive("fault") // what failed at last may be parked behind the first
		return u.waiting("notifications") == 0
	})
	if n == 0 {
		t.Error("what waited has gone without being redriven")
	}
	u.awaitMail(id)
}

func (u *up) awaitMail(order string) {
	u.t.Helper()
	u.await("the customer gets a mail", func() bool {
		return u.count("notifications", `select count(*) from mails where order_id = '`+order+`'`) > 0
	})
}

// refused: an event is too large for Kafka. Let go as it is, it is refused again;
// given up, another record goes in its place.
func refused(t *testing.T, u *up) {
	t.Helper()
	const key = "too-large"
	var topic string
	orders := u.database("orders")
	must(t, orders.Get(t.Context(), &topic, `select topic from outbox order by id limit 1`))
	extra := event.AppendHeaders(nil, event.Envelope{Source: "/order-svc", Key: key, CorrelationID: key}.Extra())
	_, err := orders.SQL().ExecContext(t.Context(), `insert into outbox (topic, key, sequence, event_id, type, headers, payload)
values ($1, $2, 1, $3, 'order.placed.v1', $4, $5)`, topic, key, event.NewID(), extra, make([]byte, 2<<20))
	must(t, err)
	since := func() int { return u.count("orders", `select coalesce(max(since_id), 0) from relay_parked`) }
	u.await("Kafka refuses the event", func() bool { return since() > 0 })
	before := since()
	if n := u.redrive(string(parked.Refused)); n != 1 {
		t.Errorf("%d keys were released, want 1", n)
	}
	u.await("Kafka refuses its copy", func() bool { return since() > before })
	u.discard("orders")
	u.await("what stands for it is published", func() bool {
		return u.count("orders", `select count(*) from relay_parked`) == 0
	})
}

// discard gives up all that waits at a service, with the rights of that service.
func (u *up) discard(database string) {
	u.t.Helper()
	db := u.asService(database)
	u.await("nothing waits in "+database, func() bool {
		keys, err := parked.List(u.t.Context(), db, parked.Filter{})
		must(u.t, err)
		for _, k := range keys {
			action := parked.Discard
			if _, err := k.Plan(action); err != nil {
				action = parked.Disown // it lies behind a gap of forged records
			}
			if _, err := k.Plan(action); err != nil {
				continue // it goes on by itself
			}
			_, err := k.Do(u.t.Context(), db, action, "e2e", "the test has seen it")
			must(u.t, err)
		}
		return len(keys) == 0
	})
}
