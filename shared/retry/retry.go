// Package retry owns what work has in common that is taken up from a table, tried
// against something outside, and put off when that fails.
package retry

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"
)

// maxText is how much of somebody else's words is kept, in bytes.
const maxText = 500

// Pause is how long to wait after so many failures in a row: first, doubled with
// each, at most most. Half of it is left to chance, so that not all come back at
// once.
func Pause(failures int, first, most time.Duration) time.Duration {
	pause := first
	for range failures - 1 {
		if pause >= most {
			break
		}
		pause *= 2
	}
	pause = min(pause, most)
	return pause/2 + rand.N(pause/2+1) // #nosec G404 -- a pause is no secret
}

// Text makes what somebody else said fit for a text column and a log.
func Text(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
}

// Outlive returns a context that ends some time after ctx does: what is begun is
// ended, within a limit. Who calls it calls the returned function in the end.
func Outlive(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(by)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() { stop(); cancel() }
}

// Bell tells one who looks for work now and then that there is some now. Rings
// that nobody has heard yet count as one. Nobody can ring a nil one.
type Bell chan struct{}

// NewBell returns a bell.
func NewBell() Bell { return make(Bell, 1) }

// Ring never blocks.
func (b Bell) Ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// Wait returns after a pause, at a ring, or when ctx ends.
func (b Bell) Wait(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b:
	case <-ctx.Done():
	}
}
