// Package sagatest owns helpers for tests of a service's reactions: they run a
// reaction against a real schema, through the kit's own inbox and outbox, but
// without a broker.
package sagatest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/inbox"
	"pavane/shared/outbox"
	"pavane/shared/postgres"
	"pavane/shared/react"
)

const (
	source   = "/sagatest"
	patience = 30 * time.Second
)

// Apply delivers e to r as the next event of its key, in one transaction with
// what r returns, and gives back the reason when the record was parked instead:
// the handler failed, or emitted what it does not declare. Db has the kit's
// tables.
func Apply(t testing.TB, db *postgres.DB, out *outbox.Outbox, r react.Reaction, e event.Event) error {
	t.Helper()
	return deliver(t, db, out, r, e, last(t, db, e.Key())+1)
}

// RequireHandledOnce delivers e to r as the next event of its key and then
// twice more, as Kafka may, and fails the test unless the first delivery was
// applied and the others left no event behind.
func RequireHandledOnce(t testing.TB, db *postgres.DB, out *outbox.Outbox, r react.Reaction, e event.Event) {
	t.Helper()
	sequence := last(t, db, e.Key()) + 1
	if err := deliver(t, db, out, r, e, sequence); err != nil {
		t.Fatalf("%s of key %q was not applied: %v", e.Kind(), e.Key(), err)
	}
	before := count(t, db)
	for range 2 {
		if err := deliver(t, db, out, r, e, sequence); err != nil {
			t.Fatalf("%s of key %q, delivered again: %v", e.Kind(), e.Key(), err)
		}
	}
	if after := count(t, db); after != before {
		t.Fatalf("%s of key %q, delivered again, appended %d events", e.Kind(), e.Key(), after-before)
	}
}

// RequirePublished fails the test unless the outbox of db holds exactly these
// events, in this order.
func RequirePublished(t testing.TB, db *postgres.DB, want ...event.Numbered) {
	t.Helper()
	var got []string
	read(t, db, func(ctx context.Context, tx *sqlx.Tx) error {
		got = nil
		const all = `select o.type || ' #' || o.sequence || ' ' || convert_from(o.payload, 'UTF8') from outbox o order by o.id`
		return tx.SelectContext(ctx, &got, all)
	})
	for i := range max(len(got), len(want)) {
		have, wanted := "nothing", "nothing"
		if i < len(got) {
			have = got[i]
		}
		if i < len(want) {
			data, err := json.Marshal(want[i].Event)
			if err != nil {
				t.Fatalf("event %d: %v", i+1, err)
			}
			wanted = fmt.Sprintf("%s #%d %s", want[i].Event.Kind(), want[i].Sequence, data)
		}
		if have != wanted {
			t.Fatalf("event %d in the outbox is\n  %s\nwant\n  %s", i+1, have, wanted)
		}
	}
}

// AtOnce calls f for 0 … calls-1 from several goroutines, as instances and
// partitions do, and counts the kinds of the events that it returns. It fails the
// test when f does.
func AtOnce(t testing.TB, workers, calls int, f func(n int) ([]event.Numbered, error)) map[string]int {
	t.Helper()
	numbers := make(chan int)
	var wg sync.WaitGroup
	var mu sync.Mutex
	kinds := map[string]int{}
	var errs []error
	for range workers {
		wg.Go(func() {
			for n := range numbers {
				events, err := f(n)
				mu.Lock()
				errs = append(errs, err)
				for _, e := range events {
					kinds[e.Event.Kind()]++
				}
				mu.Unlock()
			}
		})
	}
	for n := range calls {
		numbers <- n
	}
	close(numbers)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return kinds
}

func deliver(t testing.TB, db *postgres.DB, out *outbox.Outbox, r react.Reaction, e event.Event, sequence int64) error {
	t.Helper()
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatalf("%s: %v", e.Kind(), err)
	}
	c, err := react.NewConsumer(react.ConsumerConfig{
		Service: "sagatest", DB: db, Outbox: out, Source: noSource{}, Topics: []string{"sagatest"}, Partitions: 1,
		Reactions: []react.Reaction{r}, MaxAttempts: 1,
	})
	if err != nil {
		t.Fatalf("reaction on %s: %v", r.Kind, err)
	}
	env := event.Envelope{ID: event.NewID(), Source: source, Kind: e.Kind(), Key: e.Key(), Sequence: sequence, CorrelationID: e.Key(), Data: data}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = c.Deliver(ctx, broker.Record{
		Topic: "sagatest", Offset: nextOffset(t, db), Key: []byte(e.Key()), Value: data, Headers: env.Headers(),
	})
	if err != nil {
		t.Fatalf("%s of key %q: %v", e.Kind(), e.Key(), err)
	}
	return whyParked(t, db, e.Key())
}

func whyParked(t testing.TB, db *postgres.DB, key string) error {
	t.Helper()
	groups, err := inbox.List(t.Context(), db, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if g.Key == key {
			return fmt.Errorf("%s #%d is parked (%s): %s", g.Kind, g.Sequence, g.Cause, g.Reason)
		}
	}
	return nil
}

func last(t testing.TB, db *postgres.DB, key string) int64 {
	t.Helper()
	return number(t, db, `select coalesce((select i.last_seq from inbox i where i.source = $1 and i.key = $2), 0)`, source, key)
}

func nextOffset(t testing.TB, db *postgres.DB) int64 {
	t.Helper()
	return number(t, db, `select coalesce((select o.next_offset from inbox_offset o where o.topic = 'sagatest'), 0)`)
}

func count(t testing.TB, db *postgres.DB) int64 {
	t.Helper()
	return number(t, db, `select count(*) from outbox`)
}

func number(t testing.TB, db *postgres.DB, query string, args ...any) (n int64) {
	t.Helper()
	read(t, db, func(ctx context.Context, tx *sqlx.Tx) error { return tx.GetContext(ctx, &n, query, args...) })
	return n
}

func read(t testing.TB, db *postgres.DB, f func(ctx context.Context, tx *sqlx.Tx) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := db.Read(ctx, f); err != nil {
		t.Fatal(err)
	}
}

// noSource is for a consumer that is only given records by hand.
type noSource struct{}

func (noSource) Group(context.Context, broker.GroupConfig, func(context.Context, *broker.Assignment) error) error {
	return nil
}

func (noSource) Fetch(context.Context, []broker.Position, time.Duration, int) (broker.Fetched, error) {
	return broker.Fetched{}, nil
}

func (noSource) Offsets(context.Context, ...string) (map[string][]broker.Range, error) {
	return nil, nil
}
