package react_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/inbox"
	"pavane/shared/react"
)

// noted is a batch handler that notes its calls.
func noted[E event.Event](calls *[]string, name string) react.BatchHandler[E] {
	return func(_ context.Context, _ *sqlx.Tx, batch []E) ([][]event.Numbered, error) {
		call := name
		for _, e := range batch {
			call += fmt.Sprintf(" %s", e.Key())
		}
		*calls = append(*calls, call)
		return nil, nil
	}
}

func TestOnBatch_KindsMixed_ComeTogetherInTheOrderOfTheirKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var calls []string
	single := func(_ context.Context, _ *sqlx.Tx, e told) ([]event.Numbered, error) {
		calls = append(calls, "one "+e.ID)
		return nil, nil
	}
	c := r.consumer(func(c *react.ConsumerConfig) {
		c.Reactions = []react.Reaction{
			react.OnBatch(noted[did](&calls, "many")), react.OnBatch(noted[newer](&calls, "newer")), react.On(single),
		}
	})
	r.deliver(c,
		r.next(did{ID: "c", N: 1}, 1), r.next(newer{did{ID: "a", N: 1}}, 1), r.next(did{ID: "a", N: 2}, 2), r.next(did{ID: "b", N: 1}, 1),
		r.next(newer{did{ID: "c", N: 2}}, 2), r.next(did{ID: "a", N: 3}, 3), r.next(told{ID: "b", N: 2}, 2), r.next(newer{did{ID: "b", N: 3}}, 3),
		r.next(told{ID: "d", N: 1}, 1), r.next(did{ID: "d", N: 2}, 2))
	// A key's kinds keep their order: a newer-many-many, b many-one-newer, c many-newer, d one-many.
	requireEqual(t, "calls", strings.Join(calls, "; "), "newer a; many a a b c; one b; one d; newer b c; many d")
}

func TestOnBatch_Effects_NameEachItsOwnCause(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.many = true
	r.deliver(r.consumer(), r.record("a", 1, ""), r.record("b", 1, ""), r.record("a", 2, ""))
	for _, want := range []string{"a-1", "b-1", "a-2"} {
		key, n, _ := strings.Cut(want, "-")
		headers := selected[[]byte](r, `select headers from outbox where key = $1 and sequence = $2::bigint`, key, n)[0]
		if !bytes.Contains(headers, []byte(want)) || !bytes.Contains(headers, []byte("saga-"+key)) {
			t.Errorf("headers of %s: %q: want the id of the record and its correlation id", want, headers)
		}
	}
}

func TestOnBatch_ReturnsForOtherEvents_ParksInsteadOfGuessing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.consumer(func(c *react.ConsumerConfig) {
		c.Reactions = []react.Reaction{react.OnBatch(func(context.Context, *sqlx.Tx, []did) ([][]event.Numbered, error) {
			return make([][]event.Numbered, 2), nil
		}, told{})}
	})
	r.deliver(c, r.record("a", 1, ""), r.record("b", 1, ""), r.record("c", 1, ""))
	groups := r.parked()
	if len(groups) != 1 || groups[0].Key != "a" || groups[0].Cause != inbox.Fault {
		t.Fatalf("parked: %+v; want a, which was alone when two answers came", groups)
	}
}

func TestOnBatch_AllReactions_TakeMoreInOneTransaction(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		with []react.Reaction
		want int
	}{
		"alone":            {nil, 2000},
		"beside an origin": {[]react.Reaction{react.Origin("test", told{})}, 2000},
		"beside On":        {[]react.Reaction{react.On(func(context.Context, *sqlx.Tx, newer) ([]event.Numbered, error) { return nil, nil })}, 500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			most := 0
			many := react.OnBatch(func(_ context.Context, _ *sqlx.Tx, batch []did) ([][]event.Numbered, error) {
				most = max(most, len(batch))
				return nil, nil
			})
			records := make([]broker.Record, 2100)
			for i := range records {
				records[i] = r.record("a", int64(i)+1, "")
			}
			r.deliver(r.consumer(func(cfg *react.ConsumerConfig) { cfg.Reactions = append(c.with, many) }), records...)
			requireEqual(t, "events in the largest call", most, c.want)
		})
	}
}
