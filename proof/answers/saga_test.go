package answers_test

import (
	"slices"
	"testing"
	"time"

	"pavane/internal/audit"
	"pavane/internal/faultproxy"
)

const (
	buyersAtOnce = 8  // place orders while the faults strike
	leastOrders  = 80 // end before a run counts
)

// The five services of the saga, as processes, have requests of every kind that
// they make while they work go wrong. Each order ends, and databases and log agree.
func TestSaga_AnswersLostWhileOrdersArePlaced_EveryOrderEndsAndTheAuditIsClean(t *testing.T) {
	t.Parallel()
	s, y := proofSize(t), newTally()
	if !s.saga {
		t.Skip("PAVANE_PROOF is not set; CI runs it")
	}
	d := startShop(t)
	stop := d.buyers(buyersAtOnce, leastOrders)
	t.Cleanup(func() { stop() })
	for round := range s.rounds / 2 {
		d.strike(y, round)
	}
	ends := stop()
	v, err := audit.Run(t.Context(), audit.Source{Postgres: d.database, Kafka: d.brokers, Namespace: d.namespace}, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, difference := range v.Differences {
		t.Errorf("%s", difference.Text)
	}
	placed := 0
	for _, n := range ends {
		placed += n
	}
	if v.Orders < placed || ends["confirmed"] == 0 || ends["cancelled out_of_stock"] == 0 || ends["cancelled payment_declined"] == 0 {
		t.Errorf("the audit saw %d orders; these ended: %v", v.Orders, ends)
	}
	y.add(v.Records, d.kafka.Seen(), d.postgres.Seen())
	table, total := y.table()
	t.Logf("%d faults struck; %d orders, %d events, %d records in the log; ends: %v\n%s", total, v.Orders, v.Events, v.Records, ends, table)
}

// strike has all faults strike the requests that come with the load, some at
// once and the others soon after, and waits until the last has.
func (d *shop) strike(y *tally, round int) {
	d.Helper()
	type pair struct {
		attempt
		*faultproxy.Strike
	}
	var pairs []pair
	for i, f := range faultproxy.Faults() {
		for j, k := range kinds() {
			if k.when != working || k.name == "ROLLBACK" {
				continue
			}
			a := attempt{k, 1 + 7*i + j + round, f}
			if slices.Contains([]string{"Heartbeat", "OffsetCommit"}, k.name) {
				a.k = 1 + i
			}
			proxy := d.kafka
			if k.protocol == faultproxy.Postgres {
				proxy = d.postgres
			}
			pairs = append(pairs, pair{a, proxy.Arm(a.name, a.k, a.fault, 2*time.Second)})
		}
	}
	expired := time.NewTimer(orderLimit)
	defer expired.Stop()
	for _, p := range pairs {
		select {
		case <-p.Struck():
			y.strike(p.attempt)
		case <-expired.C:
			d.Fatalf("%s did not strike within %s; requests so far: %v %v", p.attempt, orderLimit, d.kafka.Seen(), d.postgres.Seen())
		}
	}
}
