package relay_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/relay"
)

// picky is a broker that refuses batches above a limit, until it is raised.
type picky struct {
	*broker.Client
	limit atomic.Int64
}

func (p *picky) Produce(ctx context.Context, batches []*broker.Batch) []broker.Result {
	results := make([]broker.Result, len(batches))
	var (
		taken []*broker.Batch
		at    []int
	)
	for i, b := range batches {
		if int64(b.Size()) > p.limit.Load() {
			results[i].Err = fmt.Errorf("%d bytes: %w", b.Size(), broker.ErrRefused)
			continue
		}
		taken, at = append(taken, b), append(at, i)
	}
	for i, res := range p.Client.Produce(ctx, taken) {
		results[at[i]] = res
	}
	return results
}

func (b *bench) picky() *picky {
	p := &picky{Client: b.client}
	p.limit.Store(maxMessage)
	return p
}

func (b *bench) release(key string) int {
	b.t.Helper()
	n, err := relay.Release(b.t.Context(), b.db, key, "ada", "the limit is raised")
	must(b.t, err)
	return n
}

// kinds returns the kinds of a key's records in the log, which must be numbered
// 1, 2, 3 … in this order.
func (b *bench) kinds(key string) (kinds []string) {
	b.t.Helper()
	for _, rec := range b.log() {
		e, err := event.Decode(rec.Key, rec.Headers, rec.Value)
		must(b.t, err)
		if e.Key != key {
			continue
		}
		kinds = append(kinds, e.Kind)
		if e.Sequence != int64(len(kinds)) || e.Source != "/test" {
			b.t.Errorf("key %s: %s #%d of %s stands at place %d", key, e.Kind, e.Sequence, e.Source, len(kinds))
		}
	}
	return kinds
}

func TestRelease_CauseIsMended_HeldBackRowsGoInOrderBeforeLaterOnes(t *testing.T) {
	b := setup(t)
	p := b.picky()
	b.start(b.relay(p))
	b.writeMixed()
	await.True(t, wait, "both keys are parked", func() bool { return b.drained().Parked == 2 })
	b.write("bad", 2) // a set of its own that nothing follows
	if n := b.release("key0"); n != 0 {
		t.Errorf("%d rows of a key that is not parked were released", n)
	}
	if n := b.release("bad"); n == 0 {
		t.Error("nothing was released")
	}
	b.drained()
	if got := b.kinds("bad"); len(got) != 2 {
		t.Errorf("after a release without a remedy %d records of the key are in the log, want 2", len(got))
	}
	await.True(t, wait, "the key is parked again", func() bool { return b.drained().Parked == 2 })
	p.limit.Store(1 << 20)
	b.release("bad")
	if n := b.release("bad"); n != 0 {
		t.Errorf("a second release moved %d rows", n)
	}
	b.write("bad", 3)
	await.True(t, wait, "all records of the key are in the log", func() bool { return len(b.kinds("bad")) == 11 })
	if got := b.drained().Parked; got != 1 {
		t.Errorf("%d keys are parked, want the other one", got)
	}
	b.release("worse")
	await.True(t, wait, "all records of the other key are in the log", func() bool { return len(b.kinds("worse")) == 6 })
}

func TestDiscard_RefusedRecord_LeavesARecordWithItsNumberAndFollowersGo(t *testing.T) {
	b := setup(t)
	b.start(b.relay(b.picky()))
	b.writeMixed()
	b.write("bad", 2)
	b.drained()
	n, err := relay.Discard(t.Context(), b.db, "bad", "ada", "nobody needs it")
	must(t, err)
	if n != 6 {
		t.Errorf("%d rows were copied, want 6", n)
	}
	await.True(t, wait, "the key goes on", func() bool { return len(b.kinds("bad")) == 8 })
	for i, kind := range b.kinds("bad") {
		if want := map[bool]string{true: relay.DiscardedKind, false: "fact.told.v1"}[i == 2]; kind != want {
			t.Errorf("record %d is a %s, want %s", i+1, kind, want)
		}
	}
	if _, err := relay.Discard(t.Context(), b.db, "worse", "ada", ""); err == nil {
		t.Error("a record was discarded without a reason")
	}
}

func TestRelease_ManyAtOnceUnderWriters_EachRowOnceInOrder(t *testing.T) {
	b := setup(t)
	p := b.picky()
	relays := []func(){
		b.start(b.relay(p)),
		b.start(b.relay(p, func(c *relay.Config) { c.Overdue, c.ChunkRows = time.Millisecond, 20 })),
	}
	// A transaction that began long ago and commits in between.
	slow := b.begin()
	must(t, b.append(t.Context(), slow, "slow", 1))
	var wg sync.WaitGroup
	written := make([]int, 3)
	for w := range written {
		wg.Go(func() {
			key := fmt.Sprint("bad", w)
			for i := range 40 {
				err := b.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
					size := 1
					if i%5 == w {
						size = huge
					}
					if err := b.append(ctx, tx, fmt.Sprint("key", w), 1); err != nil {
						return err
					}
					return b.spoil(ctx, tx, key, size)
				})
				if err != nil {
					t.Error(err)
					return
				}
				written[w]++
			}
		})
	}
	done := make(chan struct{})
	var releasing sync.WaitGroup
	for r := range 2 {
		releasing.Go(func() {
			for i := r; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				if _, err := relay.Release(t.Context(), b.db, fmt.Sprint("bad", i%3), "ada", "to see"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	// From then on releases run among the writers.
	await.True(t, wait, "a release waits for the slow transaction", func() bool {
		var waits bool
		must(t, b.db.Get(t.Context(), &waits, `select exists (select from pg_stat_activity
  where query like '%outbox_alone%' and cardinality(pg_blocking_pids(pid)) > 0)`))
		return waits
	})
	must(t, slow.Commit())
	wg.Wait()
	// What Kafka refuses it must refuse of all relays, so the limit is raised while none runs.
	for _, stop := range relays {
		stop()
	}
	p.limit.Store(1 << 20)
	b.start(b.relay(p))
	await.True(t, wait, "nothing is parked", func() bool { return b.drained().Parked == 0 })
	close(done)
	releasing.Wait()
	for w, n := range written {
		for _, key := range []string{fmt.Sprint("bad", w), fmt.Sprint("key", w)} {
			if got := len(b.kinds(key)); got != n {
				t.Errorf("key %s: %d records are in the log, want %d", key, got, n)
			}
		}
	}
}

// Chunks from before a release are read again as they were.
func TestRelease_BrokerComesBackEmpty_LogIsHealedAcrossTheRelease(t *testing.T) {
	t.Parallel()
	const topic = "lost"
	server := emptyBroker(t, topic, 0)
	b := setupOn(t, server.Addr(), topic)
	p := b.picky()
	must(t, b.relay(p).Flush(t.Context()))
	b.writeMixed()
	must(t, b.relay(p).Flush(t.Context()))
	b.write("bad", 1)
	b.write("key1", 1)
	must(t, b.relay(p).Flush(t.Context()))
	p.limit.Store(1 << 20)
	b.release("bad")
	b.release("worse")
	must(t, b.relay(p).Flush(t.Context()))
	server.Close()
	emptyBroker(t, topic, portOf(t, server.Addr()))
	b.write("bad", 1)
	b.start(b.relay(p))
	await.True(t, wait, "all is in the log again", func() bool {
		_, err := b.client.Offsets(t.Context(), topic)
		return err == nil && b.drained().Rows == 0 && len(b.kinds("bad")) == 8 && len(b.kinds("worse")) == 6 && len(b.kinds("key1")) == 5
	})
}

// wait is how long something may take that comes by itself.
const wait = 30 * time.Second

// Its row would have a lower number than the copies, and overtake them.
func TestRelease_WriterOfTheKeyHasNotCommitted_WaitsForIt(t *testing.T) {
	b := setup(t)
	p := b.picky()
	b.start(b.relay(p))
	must(t, b.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return b.spoil(ctx, tx, "bad", huge) }))
	await.True(t, wait, "the key is parked", func() bool { return b.drained().Parked == 1 })
	late := b.begin()
	must(t, b.append(t.Context(), late, "bad", 1))
	p.limit.Store(1 << 20)
	released := make(chan error, 1)
	go func() {
		_, err := relay.Release(t.Context(), b.db, "bad", "ada", "the limit is raised")
		released <- err
	}()
	await.True(t, wait, "the release waits for the writer", func() bool {
		if len(released) > 0 {
			t.Fatalf("released beside a writer of the key: %v", <-released)
		}
		var waits bool
		must(t, b.db.Get(t.Context(), &waits, `select exists (select from pg_locks where relation = 'outbox'::regclass and not granted)`))
		return waits
	})
	must(t, late.Commit())
	must(t, <-released)
	await.True(t, wait, "both are in the log", func() bool { return len(b.kinds("bad")) == 2 })
}
