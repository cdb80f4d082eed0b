// Package await owns the waiting of tests: for a condition, within a bound,
// instead of for a length of time.
package await

import (
	"testing"
	"time"
)

// interval is the time between two looks at a condition.
const interval = 5 * time.Millisecond

// True waits until condition holds and fails the test when it does not within
// limit. What names the condition in the failure.
func True(t testing.TB, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	expired := time.NewTimer(limit)
	defer expired.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-expired.C:
			t.Fatalf("after %s still not: %s", limit, what)
		}
	}
}
