package gateway

import (
	"context"
	"testing"
	"time"
)

func TestBreakers_CallersTimeIsOver_BlamesNoInstance(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	over, end := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer end()
	for name, ctx := range map[string]context.Context{"cancelled": cancelled, "over": over} {
		b := newBreakers()
		for range breakAfter {
			b.note(ctx, "a", ctx.Err(), 0)
		}
		if open := b.open(); len(open) > 0 {
			t.Errorf("%s: the breaker of %v is open", name, open)
		}
	}
	b := newBreakers()
	for range breakAfter {
		b.note(t.Context(), "a", context.DeadlineExceeded, 0) // a try's own limit
	}
	if open := b.open(); len(open) != 1 {
		t.Errorf("an instance that let %d calls wait: open are %v", breakAfter, open)
	}
}
