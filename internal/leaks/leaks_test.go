package leaks

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestFind_GoroutineEndsLate_IsNoLeak(t *testing.T) {
	before := goleak.IgnoreCurrent()
	ended := time.After(time.Second) // goleak by itself waits for half of that
	go func() { <-ended }()
	None(t, before)
}

func TestFind_GoroutineStays_IsNamed(t *testing.T) {
	before := goleak.IgnoreCurrent()
	stay := make(chan struct{})
	go stays(stay)
	if err := find(time.Millisecond, before); err == nil || !strings.Contains(err.Error(), "leaks.stays") {
		t.Errorf("%v; want the goroutine that stays", err)
	}
	close(stay)
	None(t, before)
}

func stays(until <-chan struct{}) { <-until }
