package react

import (
	"errors"
	"log/slog"
	"testing"
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
