package answers_test

import (
	"fmt"
	"testing"
	"time"
)

// Every kind of request that a service makes to Kafka or Postgres goes wrong in
// every way: its answer is lost, late or cut off, or the request itself is cut off
// or carried out when nobody waits for it any more.
func TestAnswers_LostLateOrCutOff_EachEventOnceInTheLogAndOnceInEffect(t *testing.T) {
	t.Parallel()
	s, y := proofSize(t), newTally()
	lanes := plan(s)
	began := time.Now()
	t.Run("lane", func(t *testing.T) {
		for i, attempts := range lanes {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				runLane(newLane(t, i), attempts, y)
			})
		}
	})
	if t.Failed() {
		return
	}
	table, total := y.table()
	t.Logf("%d faults struck in %d lanes within %s, %d events in outbox and log:\n%s", total, len(lanes), time.Since(began).Round(time.Second), y.events, table)
	want := 0
	for _, attempts := range lanes {
		want += len(attempts)
	}
	if total != want {
		t.Errorf("%d faults struck, want %d", total, want)
	}
	if names := y.unlisted(); len(names) > 0 {
		t.Errorf("requests that no fault was tried on: %v; add them to kinds", names)
	}
}

func runLane(l *lane, attempts []attempt, y *tally) {
	l.work(uint64(len(attempts)))
	first := true
	for _, a := range attempts {
		began := time.Now()
		if first && a.when != fresh {
			l.start()
		}
		if first && a.when == fresh {
			s := l.kafka.Arm(a.name, a.k, a.fault, a.hold())
			l.start()
			l.strike(a, s)
			l.recover(a)
		} else {
			l.try(a)
		}
		first = false
		y.strike(a)
		l.Logf("%-32s %s", a, time.Since(began).Round(100*time.Millisecond))
	}
	y.add(l.check(), l.kafka.Seen(), l.postgres.Seen())
}
