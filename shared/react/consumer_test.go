package react_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/failpoint"
	"pavane/shared/react"
)

const partitions = 4

// stage is a rig with a broker, a topic and a group of its own.
type stage struct {
	*rig
	addr, topic, group string
	writer             *broker.Client
	producer           broker.Producer
	written            map[int32]int32 // per partition: the next sequence of the producer
}

func newStage(t testing.TB) *stage {
	t.Helper()
	return onStage(t, newRig(t))
}

func onStage(t testing.TB, r *rig) *stage {
	t.Helper()
	s := &stage{rig: r, addr: brokertest.Start(t), group: "g-" + strings.ToLower(rand.Text()), written: map[int32]int32{}}
	s.topic = brokertest.Topic(t, s.addr, partitions)
	s.writer = s.dial()
	await.True(t, wait, "a producer id", func() (ok bool) {
		var err error
		s.producer, err = s.writer.InitProducer(t.Context())
		return err == nil
	})
	return s
}

func (s *stage) dial() *broker.Client {
	s.t.Helper()
	client, err := broker.Dial(broker.Config{Brokers: strings.Split(s.addr, ","), Topics: []string{s.topic}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	return client
}

// write appends records to the log, each to the partition of its key.
func (s *stage) write(records ...broker.Record) {
	s.t.Helper()
	batches := map[int32]*broker.Batch{}
	for _, rec := range records {
		p := broker.Partition(rec.Key, partitions)
		if batches[p] == nil {
			batches[p] = &broker.Batch{}
			batches[p].Reset(s.topic, p)
		}
		batches[p].Add(0, rec.Key, rec.Value, event.AppendHeaders(nil, rec.Headers))
	}
	for p, b := range batches {
		b.Seal(s.producer, s.written[p])
		await.True(s.t, wait, "records written", func() bool {
			return s.writer.Produce(s.t.Context(), []*broker.Batch{b})[0].Err == nil
		})
		s.written[p] = broker.NextSequence(s.written[p], b.Len())
	}
}

func (s *stage) with(change ...func(*react.ConsumerConfig)) *react.Consumer {
	s.t.Helper()
	return s.consumer(append([]func(*react.ConsumerConfig){func(c *react.ConsumerConfig) {
		c.Service, c.Source, c.Topics, c.Partitions, c.Metrics, c.BatchSize = s.group, s.dial(), []string{s.topic}, partitions, nil, 20
	}}, change...)...)
}

// run starts a consumer and returns what stops it and waits for its end.
func (s *stage) run(ctx context.Context, c *react.Consumer) (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				s.t.Errorf("run: %v", err)
			}
		case <-time.After(wait):
			s.t.Error("a cancelled consumer did not return")
		}
	})
	s.t.Cleanup(stop)
	return stop
}

func (s *stage) awaitEffects(n int) {
	s.t.Helper()
	await.True(s.t, wait, fmt.Sprintf("%d effects", n), func() bool {
		return selected[int](s.rig, `select count(*) from effect`)[0] >= n
	})
}

// burst returns records from to upto of some keys, key by key in order.
func burst(keys int, from, upto int64) []broker.Record {
	var records []broker.Record
	for n := from; n <= upto; n++ {
		for k := range keys {
			records = append(records, record(did{ID: fmt.Sprintf("key-%d", k), N: n}, n))
		}
	}
	return records
}

func TestRun_MembersComeAndGoUnderLoad_AppliesOnceInOrder(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		s := onStage(t, r)
		s.write(burst(12, 1, 10)...)
		stopFirst := s.run(t.Context(), s.with())
		s.awaitEffects(12)
		s.run(t.Context(), s.with())
		for n := int64(11); n < 40; n += 10 {
			s.write(burst(12, n, n+9)...)
			s.write(burst(12, n, n+9)...) // Kafka delivers twice
		}
		s.awaitEffects(12 * 20)
		stopFirst()
		s.write(burst(12, 41, 50)...)
		s.awaitEffects(12 * 50)
		for k := range 12 {
			s.requireDense(fmt.Sprintf("key-%d", k), 50)
		}
		requireEqual(t, "parked", len(s.parked()), 0)
	})
}

func TestRun_GroupOffsetsResetByHand_ChangeNothing(t *testing.T) {
	t.Parallel()
	for name, offset := range map[string]int64{"to the start": 0, "far ahead": 1_000_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.write(burst(8, 1, 5)...)
			stop := s.run(t.Context(), s.with())
			s.awaitEffects(8 * 5)
			stop()
			s.resetOffsets(offset)
			s.write(burst(8, 6, 10)...)
			s.run(t.Context(), s.with())
			s.awaitEffects(8 * 10)
			for k := range 8 {
				s.requireDense(fmt.Sprintf("key-%d", k), 10)
			}
		})
	}
}

// resetOffsets does what an operator does with the group tool while nobody runs.
func (s *stage) resetOffsets(offset int64) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), wait)
	defer cancel()
	done := false
	err := s.dial().Group(ctx, broker.GroupConfig{ID: s.group, Topics: []string{s.topic}}, func(_ context.Context, a *broker.Assignment) error {
		defer cancel()
		next := map[int]int64{}
		for n := range partitions {
			next[n] = offset
		}
		done = true
		return a.Commit(map[string]map[int]int64{s.topic: next})
	})
	if err != nil || !done {
		s.t.Fatalf("reset offsets: %v", err)
	}
}

func TestRun_DiesBetweenCommitAndOffsetCommit_AppliesOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	set, err := failpoint.Parse("inbox.after_offset_commit=error@1;inbox.after_commit=error@2")
	if err != nil {
		t.Fatal(err)
	}
	s.write(burst(8, 1, 5)...)
	s.run(failpoint.With(t.Context(), set), s.with())
	await.True(t, wait, "the failpoint", func() bool { return set.Hits()["inbox.after_offset_commit"] > 0 })
	s.write(burst(8, 6, 10)...)
	s.awaitEffects(8 * 10)
	for k := range 8 {
		s.requireDense(fmt.Sprintf("key-%d", k), 10)
	}
}

func TestRun_OffsetOutsideTheLog_StopsThePartitionAndSaysSo(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.write(burst(12, 1, 1)...)
	stop := s.run(t.Context(), s.with())
	s.awaitEffects(12)
	stop()
	s.exec(`update inbox_offset set next_offset = 1000 where partition = 0`)
	c := s.with()
	s.run(t.Context(), c)
	await.True(t, wait, "readiness says why", func() bool {
		err := c.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), s.topic+"/0") && strings.Contains(err.Error(), "offset 1000 is due")
	})
	s.write(burst(12, 2, 2)...)
	stopped := 0
	for k := range 12 {
		if broker.Partition(fmt.Appendf(nil, "key-%d", k), partitions) == 0 {
			stopped++
		}
	}
	if stopped == 0 {
		t.Fatal("no key of the test lies in partition 0")
	}
	s.awaitEffects(24 - stopped)
	requireEqual(t, "stored offset", selected[int64](s.rig, `select next_offset from inbox_offset where partition = 0`), []int64{1000})
}

// The rest of a log that was cut comes back record by record: here, the same
// records once more.
func TestRun_LogIsWholeAgain_StoppedPartitionGoesOnByItself(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c := s.ahead()
	s.write(burst(12, 1, 1)...)
	s.write(burst(12, 2, 2)...)
	s.awaitEffects(24)
	if err := c.Ready(t.Context()); err != nil {
		t.Errorf("not ready after it: %v", err)
	}
}

func TestRun_LogWrittenAnew_IsNotTakenForTheOldOne(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c := s.ahead()
	s.write(burst(12, 2, 2)...)
	await.True(t, wait, "readiness says why", func() bool {
		err := c.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), s.topic+"/0") && strings.Contains(err.Error(), "written anew")
	})
}

// Nobody can tell by an undecodable record whether it was there before.
func TestRun_LogIsWholeAgainUpToAnUndecodableRecord_GoesOn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	poison := broker.Record{Key: []byte("poison"), Value: []byte("no event")}
	for n := 0; broker.Partition(poison.Key, partitions) != 0; n++ {
		poison.Key = fmt.Appendf(nil, "poison-%d", n)
	}
	c := s.ahead(poison)
	s.write(append(burst(12, 1, 1), poison)...)
	s.write(burst(12, 2, 2)...)
	s.awaitEffects(24)
	if err := c.Ready(t.Context()); err != nil {
		t.Errorf("not ready after it: %v", err)
	}
}

// ahead runs a consumer that has applied a first record of 12 keys, and what
// follows them, and stands, in partition 0, as far beyond the log's end as there
// are records.
func (s *stage) ahead(following ...broker.Record) *react.Consumer {
	s.t.Helper()
	s.write(append(burst(12, 1, 1), following...)...)
	stop := s.run(s.t.Context(), s.with())
	s.awaitEffects(12)
	await.True(s.t, wait, "what follows is parked", func() bool {
		return selected[int](s.rig, `select count(*) from parked`)[0] == len(following)
	})
	stop()
	s.exec(`update inbox_offset set next_offset = 2 * next_offset where partition = 0`)
	c := s.with()
	s.run(s.t.Context(), c)
	await.True(s.t, wait, "the partition is stopped", func() bool {
		err := c.Ready(s.t.Context())
		return err != nil && strings.Contains(err.Error(), s.topic+"/0")
	})
	return c
}

func TestRun_StoredOffsetSetBack_ReadsAgainAndAppliesOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.write(burst(8, 1, 5)...)
	s.run(t.Context(), s.with())
	s.awaitEffects(8 * 5)
	s.lose(5)
	s.write(burst(8, 6, 6)...)
	s.awaitEffects(8 * 6)
	for k := range 8 {
		s.requireDense(fmt.Sprintf("key-%d", k), 6)
	}
}

// A standby that lacks the last commits takes over, and nothing comes any more that
// would show it.
func TestRun_DatabaseWentBackWhileNothingComes_ReadsAgainAndAppliesOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.write(burst(8, 1, 5)...)
	s.run(t.Context(), s.with())
	s.awaitEffects(8 * 5)
	s.lose(5)
	// The look comes every 5 s, and a busy group takes its time to begin again.
	await.True(t, time.Minute, "the effects are there again", func() bool {
		return selected[int](s.rig, `select count(*) from effect`)[0] == 8*5
	})
	for k := range 8 {
		s.requireDense(fmt.Sprintf("key-%d", k), 5)
	}
}

// lose takes the effects of the last number back, with all that goes with them.
func (s *stage) lose(last int64) {
	s.t.Helper()
	s.exec(`with offsets as (update inbox_offset set next_offset = 0), numbers as (update inbox set last_seq = $1::bigint - 1),
effects as (delete from effect where n = $1) delete from outbox where sequence = $1`, last)
}

func TestRun_DatabaseFault_WaitsAndParksNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c := s.with(func(c *react.ConsumerConfig) { c.Metrics = s.reg })
	s.run(t.Context(), c)
	s.write(burst(4, 1, 1)...)
	s.awaitEffects(4)
	s.exec(`alter table inbox rename to inbox_away`)
	s.write(burst(4, 2, 2)...)
	await.True(t, wait, "readiness says so", func() bool { return c.Ready(t.Context()) != nil && s.metric("pavane_inbox_ready") == 0 })
	s.exec(`alter table inbox_away rename to inbox`)
	s.awaitEffects(8)
	await.True(t, wait, "ready again", func() bool { return c.Ready(t.Context()) == nil && s.metric("pavane_inbox_ready") == 1 })
	requireEqual(t, "parked", len(s.parked()), 0)
}

func TestRun_ConnectionsCutUnderLoad_AppliesOnceInOrder(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		s := onStage(t, r)
		s.run(t.Context(), s.with())
		for n := int64(0); n < 10; n++ {
			s.write(burst(8, n*10+1, n*10+10)...)
			s.awaitEffects(8*int(n)*10 + 1)
			s.exec(`select pg_terminate_backend(a.pid) from pg_stat_activity a
	where a.application_name = current_setting('application_name') and a.pid <> pg_backend_pid()`)
		}
		s.awaitEffects(8 * 100)
		for k := range 8 {
			s.requireDense(fmt.Sprintf("key-%d", k), 100)
		}
		requireEqual(t, "parked", len(s.parked()), 0)
	})
}

func TestRun_HandlerHangs_WatchdogEndsTheGenerationAndNothingIsAppliedTwice(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var hung atomic.Bool
	release := make(chan struct{})
	s.write(burst(4, 1, 3)...)
	c := s.with(func(c *react.ConsumerConfig) {
		c.Watchdog = 5 * time.Second // a slow machine must not need as long for what does not hang
		c.Reactions = []react.Reaction{react.On(func(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
			if hung.CompareAndSwap(false, true) {
				<-release // whatever the context says
			}
			return s.react(ctx, tx, e)
		}, told{})}
	})
	s.run(t.Context(), c)
	await.True(t, wait, "readiness says why the generation ended", func() bool {
		err := c.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), "no progress")
	})
	close(release)
	s.awaitEffects(12)
	for k := range 4 {
		s.requireDense(fmt.Sprintf("key-%d", k), 3)
	}
}

func TestRun_OtherPartitionCount_Refuses(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c := s.with(func(c *react.ConsumerConfig) { c.Partitions = partitions + 1 })
	s.run(t.Context(), c)
	await.True(t, wait, "readiness says why", func() bool {
		err := c.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), "has 4 partitions, this build is for 5")
	})
}

// meeting is the rig's reaction, which with a first event waits for another who
// has it too, or who waits for this transaction: so two meet, however busy the
// machine is.
func meeting(r *rig) react.Handler[did] {
	const blocksSQL = `select exists (select from pg_locks w where not w.granted and pg_backend_pid() = any (pg_blocking_pids(w.pid)))`
	var here atomic.Int32
	return func(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
		if e.N == 1 {
			here.Add(1)
		}
		for met := e.N > 1; !met && here.Load() < 2; {
			if err := tx.GetContext(ctx, &met, blocksSQL); err != nil {
				return nil, err
			}
		}
		return r.react(ctx, tx, e)
	}
}

func TestDeliver_ZombiesWithTheSameRecords_ApplyOnce(t *testing.T) {
	t.Parallel()
	for name, serial := range map[string]bool{"each for itself": false, "in turn": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			var records []broker.Record
			for n := range int64(50) {
				records = append(records, r.record("a", n+1, ""), r.record("b", n+1, ""))
			}
			met := meeting(r)
			errs := make(chan error, 4)
			for i := range 4 {
				c := r.consumer(func(c *react.ConsumerConfig) {
					c.Metrics, c.BatchSize, c.Serial, c.Reactions = nil, 3+i, serial, []react.Reaction{on(r, met)}
				})
				go func() { errs <- c.Deliver(t.Context(), records...) }()
			}
			var all error
			for range 4 {
				all = errors.Join(all, <-errs)
			}
			if all != nil {
				t.Fatal(all)
			}
			r.requireDense("a", 50)
			r.requireDense("b", 50)
			// Whoever waited saw what the other had stored: nothing came twice.
			requireEqual(t, "parked", len(r.parked()), 0)
		})
	}
}
