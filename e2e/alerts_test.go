package e2e_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pavane/internal/await"
	"pavane/internal/devstack"
	"pavane/shared/event"
)

// Each rule is seen to fire when what it is for is broken, and to clear when that
// is healed, by a real Prometheus with the real rules in a hurry.
func TestAlerts_EachFiresWhenItsFaultIsThereAndClearsWhenItIsHealed(t *testing.T) {
	if os.Getenv("PAVANE_ALERTS") == "" {
		t.Skip("PAVANE_ALERTS is not set; make alerts runs it")
	}
	dead, err := devstack.FreePort(0)
	must(t, err)
	collector := fmt.Sprintf("127.0.0.1:%d", dead)
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(receiver.Close)
	u := start(t, how{embedded: true, args: []string{"--real-kafka"}, env: []string{
		"PAVANE_MAX_BACKLOG=40", "PAVANE_ORDER_DEADLINE=15s", "OTEL_EXPORTER_OTLP_ENDPOINT=http://" + collector,
		"PAVANE_WEBHOOK_URL=" + receiver.URL, "PAVANE_WEBHOOK_KEY=whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 24)),
	}})
	u.awaitReady()
	p := startPrometheus(t, u)
	await.True(t, alertLimit, "Prometheus reads all services", p.read)
	a := &alerts{prometheus: p, t: t, u: u}
	p.understands("../deploy/observability/grafana/dashboards/pavane.json")

	a.healAll(a.spans(collector), a.records(), a.provider(), a.messages(), a.reactions())
	a.healAll(a.lag(), a.halted(), a.charged())
	a.healAll(a.down())
	a.healAll(a.database())
	a.healAll(a.broker())
	a.healAll(a.loss())

	for _, name := range alertNames(t) {
		if !slices.Contains(a.seen, name) {
			t.Errorf("%s was never seen to fire and to clear", name)
		}
	}
}

// alerts breaks things and looks at what fires.
type alerts struct {
	*prometheus
	t    *testing.T
	u    *up
	seen []string // to fire and to clear
	n    int      // orders placed
}

// broken is what is broken, which alerts tell of it, and what heals it.
type broken struct {
	alerts []string
	heal   func()
}

// healAll waits until all that is broken is told, heals it, and waits until
// nobody tells of it any more.
func (a *alerts) healAll(all ...broken) {
	a.t.Helper()
	var names []string
	for _, b := range all {
		names = append(names, b.alerts...)
	}
	a.fire(names...)
	for _, b := range all {
		b.heal()
	}
	a.clear(names...)
	a.seen = append(a.seen, names...)
}

// place places orders and does not care for the answers.
func (a *alerts) place(orders int, body string) (last string) {
	a.t.Helper()
	gw := a.u.Gateway()
	for range orders {
		a.n++
		answer, err := gw.Do(http.MethodPost, "/v1/orders", body, "Idempotency-Key", fmt.Sprint("alert-", a.n))
		must(a.t, err)
		last = answer.Header.Get("Location")
	}
	return last[strings.LastIndex(last, "/")+1:]
}

// spans: the collector was never there; it comes.
func (a *alerts) spans(addr string) broken {
	return broken{[]string{"PavaneSpansLost"}, func() {
		l, err := net.Listen("tcp", addr)
		must(a.t, err)
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		must(a.t, s.Listener.Close())
		s.Listener = l
		s.Start()
		a.t.Cleanup(s.Close)
	}}
}

// records: poison, whose kinds have a gap among them (chaos/poison.sh), and an
// event that is too large for Kafka.
func (a *alerts) records() broken {
	tool(a.t, a.u, "break", "poison")
	const key = "too-large"
	extra := event.AppendHeaders(nil, event.Envelope{Source: "/order-svc", Key: key, CorrelationID: key}.Extra())
	var topic string
	orders := a.u.database("orders")
	must(a.t, orders.Get(a.t.Context(), &topic, `select topic from outbox order by id limit 1`))
	_, err := orders.SQL().ExecContext(a.t.Context(), `insert into outbox (topic, key, sequence, event_id, type, headers, payload)
values ($1, $2, 1, $3, 'order.placed.v1', $4, $5)`, topic, key, event.NewID(), extra, make([]byte, 2<<20))
	must(a.t, err)
	return broken{[]string{"PavaneKeysParked", "PavaneGap", "PavaneRelayRefused"}, func() {
		for _, cause := range []string{"fault", "unknown_version", "undecodable", "refused"} {
			tool(a.t, a.u, "parked", "discard", "--cause", cause, "--why", "the test has seen it")
		}
		tool(a.t, a.u, "parked", "discard", "--cause", "gap", "--forged", "--why", "the test has seen it")
	}}
}

// provider: the card provider is down, and orders are paid by card
// (chaos/provider-down.sh).
func (a *alerts) provider() broken {
	tool(a.t, a.u, "break", "provider")
	a.place(5, `{"customer_id":"cust-04","items":[{"sku":"mug-red","quantity":1}],"payment_method":"card","card_token":"tok_ok"}`)
	return broken{[]string{"PavaneProviderFails"}, a.mend}
}

// mend heals what `pavane break` broke.
func (a *alerts) mend() { tool(a.t, a.u, "heal") }

// messages: a mail and a webhook that nobody can send, and one of each that its
// receiver has refused; somebody holds their rows. The service sleeps while that is
// arranged.
func (a *alerts) messages() broken {
	pid := a.u.State().Services["notification-svc"].Pid
	must(a.t, syscall.Kill(pid, syscall.SIGSTOP))
	defer syscall.Kill(pid, syscall.SIGCONT) //nolint:errcheck // it lives
	db := a.u.database("notifications").SQL()
	_, err := db.Exec(`insert into mails (order_id, kind, recipient, subject, body, state, refused, created_at)
select 'held', kind, 'nobody@pavane.example', 'held', 'held', 'pending', kind = 'cancelled', clock_timestamp() - interval '10 minutes'
from unnest(array['receipt', 'cancelled']) kind`)
	must(a.t, err)
	_, err = db.Exec(`insert into webhooks (order_id, kind, body, refused, created_at)
select order_id, kind, '{}', refused, created_at from mails where order_id = 'held'`)
	must(a.t, err)
	release := a.transaction("notifications", `select 1 from mails join webhooks using (order_id, kind) where order_id = 'held' for update`)
	return broken{[]string{"PavaneMailsWait", "PavaneMailsRefused", "PavaneWebhooksWait", "PavaneWebhooksRefused"}, release}
}

// transaction runs a statement in a transaction that stays open.
func (a *alerts) transaction(database, statement string, args ...any) (release func()) {
	a.t.Helper()
	tx, err := a.u.database(database).SQL().BeginTx(context.WithoutCancel(a.t.Context()), nil)
	must(a.t, err)
	a.t.Cleanup(func() { tx.Rollback() }) //nolint:errcheck // it may be over
	_, err = tx.Exec(`set local idle_in_transaction_session_timeout = 0`)
	must(a.t, err)
	_, err = tx.Exec(statement, args...)
	must(a.t, err)
	return func() { must(a.t, tx.Rollback()) }
}

// reactions: a table of notification is away, as after a migration that went wrong.
func (a *alerts) reactions() broken {
	db := a.u.database("notifications").SQL()
	_, err := db.Exec(`alter table addressees rename to addressees_away`)
	must(a.t, err)
	a.place(5, body("cust-05", "mug-red"))
	return broken{[]string{"PavaneReactionsFail"}, func() {
		_, err := db.Exec(`alter table addressees_away rename to addressees`)
		must(a.t, err)
		tool(a.t, a.u, "parked", "redrive", "--cause", "fault", "--why", "the table is back")
	}}
}

// lag: a transaction stays open in inventory, and another on an order, so that
// nobody can cancel it at its deadline.
func (a *alerts) lag() broken {
	release := a.u.hold("inventory")
	id := a.place(1, body("cust-06", "mug-red"))
	let := a.transaction("orders", `select 1 from orders where order_id = $1 for update`, id)
	return broken{[]string{"PavaneConsumerLag", "PavaneDeadlinesOverdue"}, func() { let(); release() }}
}

// down: the order service is down, and the gateway has to say so (chaos/down.sh).
func (a *alerts) down() broken {
	a.frozen.Store(true)
	tool(a.t, a.u, "break", "down", "order-svc")
	gw := a.u.Gateway()
	ctx, cancel := context.WithCancel(context.WithoutCancel(a.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			gw.Do(http.MethodGet, "/v1/orders", "") //nolint:errcheck // it fails, which is the point
		}
	}()
	return broken{[]string{"PavaneServiceDown", "PavaneRequestsFail"}, func() {
		cancel()
		<-done
		a.mend()
		a.frozen.Store(false)
	}}
}

// halted: the offsets of notification lie beyond the end of the log, as when the
// service was connected to another cluster.
func (a *alerts) halted() broken {
	db := a.u.database("notifications").SQL()
	_, err := db.Exec(`update inbox_offset set next_offset = next_offset + 1000000`)
	must(a.t, err)
	a.restart("notification-svc")
	return broken{[]string{"PavanePartitionsHalted"}, func() {
		_, err := db.Exec(`update inbox_offset set next_offset = next_offset - 1000000`)
		must(a.t, err)
		a.restart("notification-svc")
	}}
}

// database: Postgres is away, which a consumer with nothing to do finds out when
// it looks for parked records that are due (chaos/postgres-down.sh).
func (a *alerts) database() broken {
	tool(a.t, a.u, "break", "postgres")
	return broken{[]string{"PavaneConsumerStopped", "PavaneBacklogUnknown"}, a.mend}
}

// restart kills a service; it is started again.
func (a *alerts) restart(service string) { a.u.With(a.t).Kill(service) }

// broker: Kafka is away, and more orders come than may wait (chaos/broker-down.sh).
func (a *alerts) broker() broken {
	tool(a.t, a.u, "break", "broker")
	gw := a.u.Gateway()
	ctx, cancel := context.WithCancel(context.WithoutCancel(a.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ctx.Err() == nil; n++ {
			gw.Do(http.MethodPost, "/v1/orders", body(fmt.Sprintf("cust-%02d", 1+n%19), "mug-red")) //nolint:errcheck // refused in the end
		}
	}()
	return broken{[]string{"PavaneBacklogOld", "PavaneNewWorkRefused"}, func() {
		cancel()
		<-done
		a.mend()
	}}
}
