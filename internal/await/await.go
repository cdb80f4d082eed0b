// Package await owns the waiting of tests: for a condition, within a bound,
// instead of for a length of time.
package await

import (
	"testing"
	"time"
)

const (
	shortest = 5 * time.Millisecond
	longest  = 100 * time.Millisecond
	part     = 8 // of the time waited
)

// Pause is how long to wait for the next look at a condition when so much was waited
// already. It grows: many a look is a query or a request, and beside other tests
// costs them more time than it saves here.
func Pause(waited time.Duration) time.Duration { return min(max(waited/part, shortest), longest) }

// True waits until condition holds and fails the test when it does not within
// limit. What names the condition in the failure.
func True(t testing.TB, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	began := time.Now()
	next := time.NewTimer(Pause(0))
	defer next.Stop()
	expired := time.NewTimer(limit)
	defer expired.Stop()
	for !condition() {
		select {
		case <-next.C:
			next.Reset(Pause(time.Since(began)))
		case <-expired.C:
			t.Fatalf("after %s still not: %s", limit, what)
		}
	}
}
