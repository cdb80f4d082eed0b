package relay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/shared/broker"
	"pavane/shared/failpoint"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

func TestRelay_ManyWritersAndThreeRelays_EachCommittedRowOnceInKeyOrder(t *testing.T) {
	b := setup(t)
	for range 3 {
		b.start(b.relay(nil))
	}
	errRollback := errors.New("rolled back on purpose")
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			for range 100 {
				err := b.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
					if err := b.append(ctx, tx, fmt.Sprint("key", rng.IntN(12)), 1+rng.IntN(3)); err != nil {
						return err
					}
					// Transactions overlap in odd ways.
					if _, err := tx.ExecContext(ctx, `select pg_sleep(random() * 0.002)`); err != nil {
						return err
					}
					if rng.IntN(5) == 0 {
						return errRollback
					}
					return nil
				})
				if err != nil && !errors.Is(err, errRollback) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.requireExact()
}

func TestRelay_LowerIDCommitsLater_IsNotSkipped(t *testing.T) {
	b := setup(t)
	b.start(b.relay(nil))
	slow := b.begin()
	must(t, b.append(t.Context(), slow, "slow", 1))
	b.write("fast", 2)
	if got := b.await(2); len(got) != 2 {
		t.Fatalf("log holds %d records while a transaction is open, want the 2 committed ones", len(got))
	}
	must(t, slow.Commit())
	b.requireExact()
}

func TestRelay_TransactionWithoutXIDYet_IsNotSkipped(t *testing.T) {
	// A transaction may begin before a set is cut and draw its xid after it.
	b := setup(t)
	b.start(b.relay(nil))
	open := b.begin()
	_, err := open.ExecContext(t.Context(), `select 1`)
	must(t, err)
	for i := range 5 {
		b.write("other", 1)
		b.await(i + 1)
	}
	must(t, b.append(t.Context(), open, "open", 1))
	must(t, open.Commit())
	b.requireExact()
}

// planning calls between when a relay has read its first rows and not planned
// them yet.
type planning struct {
	*broker.Client
	between func()
}

func (p *planning) InitProducer(ctx context.Context) (broker.Producer, error) {
	p.between()
	return p.Client.InitProducer(ctx)
}

func TestRelay_TransactionBeginsWhileAChunkIsPlanned_IsNotSkipped(t *testing.T) {
	// Its number lies between the set's snapshot and the plan's own number: it is
	// in no list of open transactions, and not later than the plan either.
	b := setup(t)
	b.write("first", 1)
	var open *sqlx.Tx
	p := &planning{Client: b.client, between: sync.OnceFunc(func() {
		open = b.begin()
		must(t, b.append(t.Context(), open, "open", 1))
	})}
	must(t, b.relay(p).Flush(t.Context()))
	b.await(1)
	must(t, open.Commit())
	b.start(b.relay(nil))
	b.requireExact()
}

func TestRelay_AnotherRelayPlansFirst_SendsNothingOfItsOwn(t *testing.T) {
	b := setup(t)
	b.write("key", 3)
	late := &planning{Client: b.client, between: sync.OnceFunc(func() { must(t, b.relay(nil).Flush(t.Context())) })}
	must(t, b.relay(late).Flush(t.Context()))
	b.requireExact()
}

func TestRelay_OlderTransactionWritesKeySecond_KeyOrderIsCommitOrder(t *testing.T) {
	// The older transaction has the lower xid but locks the key after the
	// younger one: order by xid or by now() would invert the key.
	b := setup(t)
	older := b.begin()
	_, err := older.ExecContext(t.Context(), `select pg_current_xact_id()`)
	must(t, err)
	b.write("key", 1)
	must(t, b.append(t.Context(), older, "key", 1))
	must(t, older.Commit())
	b.start(b.relay(nil))
	b.requireExact()
}

func TestRelay_BacklogBeyondAllLimits_IsPublishedInChunks(t *testing.T) {
	b := setup(t)
	for i := range 40 {
		b.write(fmt.Sprint("key", i%7), 25)
	}
	b.start(b.relay(nil, func(c *relay.Config) { c.ChunkRows, c.ChunkBytes = 90, 4<<10 }))
	b.requireExact()
}

func TestRelay_DiesAtAnyPoint_NextOnePublishesOnce(t *testing.T) {
	for _, point := range []string{"relay.before_plan", "relay.after_plan", "relay.before_send", "relay.after_ack", "relay.after_mark"} {
		for hit := 1; hit <= 3; hit++ {
			t.Run(fmt.Sprintf("%s@%d", point, hit), func(t *testing.T) {
				b := setup(t)
				set, err := failpoint.Parse(fmt.Sprintf("%s=error@%d", point, hit))
				must(t, err)
				ctx := failpoint.With(t.Context(), set)
				died := false
				for i := range 6 {
					b.write(fmt.Sprint("key", i%2), 3)
					// Flush returns the point's error and leaves all as a kill would.
					if err := b.relay(nil).Flush(ctx); err != nil {
						died = true
						break
					}
				}
				if !died {
					t.Fatalf("the run never died at %s", point)
				}
				b.write("key0", 2)
				b.start(b.relay(nil))
				b.requireExact()
			})
		}
	}
}

// The relay that planned the chunk died while the database's clock was an hour ahead.
func TestRelay_ClockHasGoneBack_ChunkOfADeadRelayIsSentAtOnce(t *testing.T) {
	b := setup(t)
	set, err := failpoint.Parse("relay.after_plan=error")
	must(t, err)
	b.write("key", 1)
	if err := b.relay(nil).Flush(failpoint.With(t.Context(), set)); err == nil {
		t.Fatal("the relay did not die after its plan")
	}
	b.exec(`update relay_journal set planned_at = planned_at + interval '1 hour'`)
	b.start(b.relay(nil))
	b.requireExact()
}

// A chunk that was just planned is left to the one that planned it for a while,
// and nobody rings when that one is dead.
func TestRelay_YoungChunkOfADeadRelay_IsNotSleptOver(t *testing.T) {
	b := setup(t)
	set, err := failpoint.Parse("relay.after_plan=error")
	must(t, err)
	b.write("key", 1)
	bell := b.bell()
	await.True(t, wait, "the bell is heard", func() bool {
		_, err := bell.Sleep(t.Context())
		return err == nil
	})
	must(t, bell.Wake(t.Context()))
	if err := b.relay(nil).Flush(failpoint.With(t.Context(), set)); err == nil {
		t.Fatal("the relay did not die after its plan")
	}
	b.start(b.relay(nil, func(c *relay.Config) { c.Wake, c.Bell, c.IdlePoll, c.Overdue = nil, bell, time.Hour, time.Second }))
	b.requireExact()
}

// bell is the bell of one relay.
func (b *bench) bell() *postgres.Bell {
	b.t.Helper()
	bell, err := postgres.OpenBell(relay.Pool(b.url), "outbox")
	must(b.t, err)
	b.t.Cleanup(func() { bell.Close() })
	return bell
}

func TestRelay_WritersOfAnotherProcess_WakeItByTheBell(t *testing.T) {
	for relays := 1; relays <= 3; relays += 2 {
		t.Run(fmt.Sprint(relays, " relays"), func(t *testing.T) {
			b := setup(t)
			for range relays {
				b.start(b.relay(nil, func(c *relay.Config) { c.Wake, c.Bell, c.IdlePoll = nil, b.bell(), time.Hour }))
			}
			for i := range 60 {
				b.write(fmt.Sprint("key", i%7), 1+i%2)
				b.await(i + 1 + (i+1)/2)
			}
			held := b.begin() // whoever cannot sleep beside it must look often
			must(t, b.append(t.Context(), held, "held", 1))
			for i := range 10 {
				b.write(fmt.Sprint("key", i%7), 1)
				b.await(91 + i)
			}
			must(t, held.Commit())
			b.requireExact()
		})
	}
}

// lossy loses the answer to every second produce request.
type lossy struct {
	*broker.Client
	mu sync.Mutex
	n  int
}

func (l *lossy) Produce(ctx context.Context, batches []*broker.Batch) []broker.Result {
	results := l.Client.Produce(ctx, batches)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n++; l.n%2 == 1 {
		for i := range results {
			results[i] = broker.Result{Err: fmt.Errorf("%w: answer lost on purpose", broker.ErrUnavailable)}
		}
	}
	return results
}

func TestRelay_AnswersLost_PublishesOnce(t *testing.T) {
	b := setup(t)
	b.start(b.relay(&lossy{Client: b.client}))
	for i := range 30 {
		b.write(fmt.Sprint("key", i%5), 2)
	}
	b.requireExact()
}

// stalled holds a produce request until released, as a stopped process would.
type stalled struct {
	*broker.Client
	reached, release chan struct{}
	once             sync.Once
}

func (s *stalled) Produce(ctx context.Context, batches []*broker.Batch) []broker.Result {
	s.once.Do(func() {
		close(s.reached)
		<-s.release
	})
	return s.Client.Produce(ctx, batches)
}

func TestRelay_StoppedInMidSend_OthersGoOnAndItsLateCopyIsNoOp(t *testing.T) {
	b := setup(t)
	zombie := &stalled{Client: b.client, reached: make(chan struct{}), release: make(chan struct{})}
	b.start(b.relay(zombie))
	b.write("key", 1)
	<-zombie.reached
	b.start(b.relay(nil))
	for i := range 12 { // more batches than the broker remembers
		b.write("key", 1)
		b.await(i + 2)
	}
	close(zombie.release)
	b.write("key", 1)
	b.requireExact()
}

// refusal returns what a relay refuses with; one that runs on is stopped.
func (b *bench) refusal() error {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	return b.relay(nil).Run(ctx)
}

func TestRelay_DatabaseRestoredElsewhere_RefusesToRun(t *testing.T) {
	b := setup(t)
	b.write("key", 1)
	must(t, b.relay(nil).Flush(t.Context()))
	b.exec(`update relay_identity set system_identifier = 'another cluster'`)
	if err := b.refusal(); !errors.Is(err, relay.ErrRefuse) {
		t.Fatalf("Run on a restored database = %v, want ErrRefuse", err)
	}
}

func TestRelay_RowsOfPlannedChunkChanged_RefusesToRun(t *testing.T) {
	b := setup(t)
	set, err := failpoint.Parse("relay.after_plan=error")
	must(t, err)
	b.write("key", 3)
	if err := b.relay(nil).Flush(failpoint.With(t.Context(), set)); err == nil {
		t.Fatal("the relay did not die after its plan")
	}
	b.exec(`delete from outbox where sequence = 2`)
	if err := b.refusal(); !errors.Is(err, relay.ErrRefuse) {
		t.Fatalf("Run after an outbox row was deleted = %v, want ErrRefuse", err)
	}
}

func TestLoadBacklog_CountsWhatTheLogLacks(t *testing.T) {
	b := setup(t)
	require := func(want int64) {
		t.Helper()
		got, err := relay.LoadBacklog(t.Context(), b.db)
		must(t, err)
		if got.Rows != want || (want > 0) != (got.Oldest > 0) {
			t.Errorf("backlog = %+v, want %d rows", got, want)
		}
	}
	require(0)
	b.write("key", 3)
	require(3)
	must(t, b.relay(nil).Flush(t.Context()))
	require(0)
	b.write("key", 2)
	require(2)
}

func TestRelay_OldRow_IsStampedWithTheTimeOfItsPlan(t *testing.T) {
	// Kafka forgets a producer whose last records look older than
	// producer.id.expiration.ms, and then takes a copy for new.
	b := setup(t)
	b.write("key", 1)
	b.exec(`update outbox set created_at = created_at - interval '20 hours'`) // within retention, in another partition
	before := time.Now().Add(-time.Second)
	set, err := failpoint.Parse("relay.after_ack=error")
	must(t, err)
	if err := b.relay(nil).Flush(failpoint.With(t.Context(), set)); err == nil {
		t.Fatal("the relay did not die after its send")
	}
	first := b.await(1)[0].Time
	if first.Before(before) {
		t.Errorf("record is stamped %v, before the test began", first)
	}
	must(t, b.relay(nil).Flush(t.Context()))
	b.requireExact()
}

// amnesiac answers for one partition that it knows nothing of what came before,
// and ends its relay when that has begun a new epoch.
type amnesiac struct {
	*broker.Client
	partition int32
	renewed   func() bool
	end       context.CancelFunc
}

func (a *amnesiac) Produce(ctx context.Context, batches []*broker.Batch) []broker.Result {
	results := make([]broker.Result, len(batches))
	renewed := a.renewed()
	if renewed {
		a.end()
	}
	for i, b := range batches {
		_, p := b.Topic()
		switch {
		case renewed:
			results[i] = broker.Result{Offset: -1, Err: broker.ErrUnavailable}
		case p == a.partition:
			results[i] = broker.Result{Offset: -1, Err: broker.ErrSequenceGap}
		default:
			results[i] = a.Client.Produce(ctx, batches[i:i+1])[0]
		}
	}
	return results
}

// forget has a relay send what waits to a broker that has forgotten all of the key's
// partition, and die when it has begun a new epoch for it.
func (b *bench) forget(key string) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	renewed := func() (yes bool) {
		must(b.t, b.db.SQL().QueryRowContext(b.t.Context(), `select max(producer_epoch) > 0 from relay_journal`).Scan(&yes))
		return yes
	}
	forgotten := &amnesiac{Client: b.client, partition: broker.Partition([]byte(key), partitions), renewed: renewed, end: cancel}
	if err := b.relay(forgotten).Flush(ctx); err == nil || !renewed() {
		b.t.Fatalf("the relay did not die in its new epoch: %v", err)
	}
}

func TestRelay_DiesAfterItBeganAnEpoch_WhatIsInTheLogDoesNotComeAgain(t *testing.T) {
	b := setup(t)
	for i := range 12 {
		b.write(fmt.Sprint("key", i), 2)
	}
	b.forget("key0")
	b.start(b.relay(nil))
	b.requireExact()
	for i := range 12 { // every partition goes on
		b.write(fmt.Sprint("key", i), 1)
	}
	b.requireExact()
}
