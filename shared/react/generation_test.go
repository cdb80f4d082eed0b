package react

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/inbox"
)

func lonely() *Consumer {
	return &Consumer{metrics: newMeters(nil, nil, nil), cfg: ConsumerConfig{Logger: slog.New(slog.DiscardHandler)}}
}

// A handler that does not obey its context can end long after the next generation
// began.
func TestReport_GenerationEndsLate_LeavesWhatIsToldOfTheNext(t *testing.T) {
	t.Parallel()
	c := lonely()
	late, next := &generation{c: c}, &generation{c: c}
	c.newest.Store(next)
	why := errors.New("the database is away")
	next.report(func(s *status) { s.stuck = why })
	late.report(func(s *status) { s.stuck = nil })
	if c.status.stuck != why {
		t.Errorf("the next generation is stuck by %v, want %v", c.status.stuck, why)
	}
}

// It does not look for parked keys any more, and would not see them go.
func TestApplyAll_NoPartitionIsLeft_ShowsNoParkedKeys(t *testing.T) {
	t.Parallel()
	c, reg := lonely(), prometheus.NewRegistry()
	reg.MustRegister(c.metrics.parked)
	c.metrics.parkedBy(map[inbox.Cause]int{inbox.Fault: 3})
	g := &generation{c: c}
	c.newest.Store(g)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.applyAll(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range families[0].GetMetric() {
		if n := m.GetGauge().GetValue(); n != 0 {
			t.Errorf("%v keys are shown as parked: %v", n, m.GetLabel())
		}
	}
}

func TestTellNow_KafkaDoesNotAnswer_TellsAgain(t *testing.T) {
	t.Parallel()
	told := 0
	g := &generation{c: lonely(), changed: true, next: map[partition]int64{{"t", 0}: 5}}
	g.tell = func(map[string]map[int]int64) error {
		if told++; told == 1 {
			return errors.New("away")
		}
		return nil
	}
	for range 3 {
		if err := g.tellNow(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if told != 2 {
		t.Errorf("told %d times, want once more after the failure and then no more", told)
	}
}
