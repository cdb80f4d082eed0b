package e2e_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"pavane/internal/await"
	"pavane/internal/logcut"
)

// partitions is how many each topic of a demo has.
const partitions = 6

// charged: the card provider holds money for an order that nobody placed.
func (a *alerts) charged() broken {
	const charge = `{"key":"nobodys-order","reference":"nobodys-order","token":"tok_ok","amount":500,"currency":"EUR"}`
	req, err := http.NewRequest(http.MethodPost, a.u.State().Provider+"/v1/charges", strings.NewReader(charge))
	must(a.t, err)
	req.Header.Set("Idempotency-Key", "nobodys-order")
	res, err := http.DefaultClient.Do(req)
	must(a.t, err)
	must(a.t, res.Body.Close())
	if res.StatusCode != http.StatusCreated {
		a.t.Fatalf("the provider answers %s to a charge", res.Status)
	}
	return broken{[]string{"PavaneProviderDiffers"}, func() {}}
}

// loss: Kafka is killed and loses the end of what it had acknowledged to
// order-svc, and all of payment-svc's records, which nobody's journal reaches back
// to. It is told of an event, so there is nothing to heal.
func (a *alerts) loss() broken {
	a.outlive("payments", "payment-svc")
	tool(a.t, a.u, "break", "broker-kill")
	a.cut("orders.events.v1", logcut.Cut{Batches: 2})
	a.cut("payments.events.v1", logcut.Cut{All: true})
	a.mend()
	gw := a.u.Gateway()
	for n := range 3 * partitions { // so that each partition gets something
		_, err := gw.Place(orderLimit, fmt.Sprint("after-the-loss-", n), body(fmt.Sprintf("cust-%02d", 1+n), "mug-red"))
		must(a.t, err)
	}
	return broken{[]string{"PavaneLogHealed", "PavaneLogForgotten"}, func() {}}
}

// outlive ages what a service's journal says by more than the day for which it is
// kept, and waits until the relay has trimmed it.
func (a *alerts) outlive(database, service string) {
	db := a.u.database(database)
	_, err := db.SQL().Exec(`update relay_ack set acked_at = acked_at - interval '25 hours'`)
	must(a.t, err)
	a.restart(service)
	await.True(a.t, orderLimit, "the journal of "+service+" is trimmed", func() bool {
		var old int
		must(a.t, db.Get(a.t.Context(), &old, `select count(*) from relay_journal j join relay_ack a using (chunk)
where a.acked_at < now() - interval '24 hours' and j.chunk < (select max(chunk) from relay_journal)`))
		return old == 0
	})
}

// cut takes the end of each partition's log of a topic from the Kafka that is down.
func (a *alerts) cut(topic string, c logcut.Cut) {
	lost := 0
	for n := range partitions {
		records, err := c.Apply(filepath.Join(a.u.Dir, "kafka", "data"), topic, n)
		must(a.t, err)
		lost += records
	}
	if lost == 0 {
		a.t.Fatalf("%s has lost nothing", topic)
	}
	a.t.Logf("Kafka has lost %d acknowledged records of %s", lost, topic)
}
