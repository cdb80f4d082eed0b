package react_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/inbox"
	"pavane/shared/react"
)

// failing is a consumer whose reaction to #1 of key a fails with err as long as
// it is not nil.
func (r *rig) failing(err *error, change ...func(*react.ConsumerConfig)) *react.Consumer {
	r.t.Helper()
	return r.consumer(append(change, func(c *react.ConsumerConfig) {
		c.Reactions = []react.Reaction{react.On(func(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
			if e.ID == "a" && e.N == 1 && *err != nil {
				return nil, *err
			}
			return r.react(ctx, tx, e)
		}, told{})}
	})...)
}

// settleUntil has what is due applied until it is so.
func (r *rig) settleUntil(c *react.Consumer, so func() bool) {
	r.t.Helper()
	await.True(r.t, 10*time.Second, "what was awaited", func() bool {
		r.deliver(c)
		return so()
	})
}

// requireGap wants key a to wait behind a gap before #3, counted and told.
func (r *rig) requireGap() {
	r.t.Helper()
	parked := r.parked()
	if len(parked) != 1 || parked[0].Cause != inbox.Missing || parked[0].Sequence != 3 || parked[0].Records != 2 {
		r.t.Fatalf("parked: %+v; want #3 and #4 behind a gap", parked)
	}
	requireEqual(r.t, "gaps", r.metric("pavane_inbox_gaps_total"), 1)
	requireEqual(r.t, "parked keys", r.metric("pavane_parked_keys"), 1)
}

// The gap comes while the key is parked for another reason, so it shows only
// when that has passed.
func TestConsumer_GapBehindARetriedRecord_IsToldOnceItShows(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	failed := errors.New("once")
	c := r.failing(&failed, func(c *react.ConsumerConfig) { c.MaxAttempts = 1000 })
	r.deliver(c, r.record("a", 1, ""))
	r.deliver(c, r.record("a", 3, ""), r.record("a", 4, ""))
	failed = nil
	r.settleUntil(c, func() bool { return len(r.effects("a")) == 1 && r.metric("pavane_parked_keys") == 1 })
	r.requireGap()
	r.deliver(c, r.record("a", 2, ""))
	r.requireDense("a", 4)
}

func TestConsumer_GapBehindADiscardedRecord_IsToldOnceItShows(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	failed := fault.Permanent("never")
	c := r.failing(&failed)
	r.deliver(c, r.record("a", 1, ""), r.record("a", 3, ""), r.record("a", 4, ""))
	if _, err := inbox.Discard(t.Context(), r.db, inbox.ID{Source: source, Key: "a"}, 1, "ada", "it never will"); err != nil {
		t.Fatal(err)
	}
	r.settleUntil(c, func() bool { return r.metric("pavane_parked_keys") == 1 && r.metric("pavane_inbox_gaps_total") == 1 })
	r.requireGap()
}

// What a handler cannot have now is its own key's matter.
func TestConsumer_HandlerIsUnavailable_HoldsUpOnlyItsKey(t *testing.T) {
	t.Parallel()
	for name, failed := range map[string]error{
		"and says so":                      fault.Unavailable("nobody answers"),
		"for want of a server, wrapped":    fault.Unavailable("ask: %w", &url.Error{Op: "Get", URL: "http://there", Err: io.EOF}),
		"for want of a server":             &url.Error{Op: "Get", URL: "http://there", Err: io.EOF},
		"for want of time":                 context.DeadlineExceeded,
		"because its data ends":            io.EOF,
		"because its data ends in between": fmt.Errorf("unpack: %w", io.ErrUnexpectedEOF),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			c := r.failing(&failed)
			r.deliver(c, r.record("a", 1, ""), r.record("b", 1, ""))
			requireEqual(t, "effects of another key", r.effects("b"), []int64{1})
			r.settleUntil(c, func() bool { return r.metric("pavane_parked_keys") == 1 }) // after the last attempt
			if parked := r.parked(); len(parked) != 1 || parked[0].Cause != inbox.Fault {
				t.Errorf("parked: %+v", parked)
			}
		})
	}
}
