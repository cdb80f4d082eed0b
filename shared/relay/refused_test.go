package relay_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/failpoint"
	"pavane/shared/relay"
)

// The broker of these tests takes no batch above maxMessage; a huge fact is
// above it alone.
const (
	maxMessage = 12 << 10
	huge       = 16 << 10
)

// bulky is a fact that can be too large.
type bulky struct {
	ID  string `json:"id"`
	Pad string `json:"pad"`
}

func (bulky) Kind() string  { return "fact.told.v1" }
func (b bulky) Key() string { return b.ID }

// setupStrict is setup on a topic with a small max.message.bytes.
func setupStrict(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	addr := brokertest.Start(t)
	admin, err := broker.Dial(broker.Config{Brokers: strings.Split(addr, ",")})
	must(t, err)
	t.Cleanup(admin.Close)
	topic := "t-" + strings.ToLower(rand.Text())
	must(t, admin.EnsureTopics(t.Context(), []broker.Topic{{
		Name: topic, Partitions: partitions, ReplicationFactor: 1, Configs: map[string]string{"max.message.bytes": fmt.Sprint(maxMessage)},
	}}))
	return setupOn(t, addr, topic)
}

// spoil appends facts of the given sizes to key within tx.
func (b *bench) spoil(ctx context.Context, tx *sqlx.Tx, key string, sizes ...int) error {
	var version int64
	err := tx.GetContext(ctx, &version, `insert into counter (key, version) values ($1, $2)
on conflict (key) do update set version = counter.version + $2 returning version`, key, len(sizes))
	if err != nil {
		return err
	}
	events := make([]event.Event, len(sizes))
	for i, size := range sizes {
		events[i] = bulky{ID: key, Pad: strings.Repeat("x", size)}
	}
	return b.out.Append(ctx, tx, event.Number(version-int64(len(sizes))+1, events...)...)
}

// writeMixed commits facts of many keys at once, so that they share a chunk;
// the third facts of "bad" and of "worse" are huge.
func (b *bench) writeMixed() {
	b.t.Helper()
	must(b.t, b.db.InTx(b.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		for round := range 4 {
			for i := range 12 {
				if err := b.append(ctx, tx, fmt.Sprint("key", i), 1); err != nil {
					return err
				}
			}
			sizes := []int{1}
			if round == 1 {
				sizes = []int{1, huge, 1}
			}
			if err := errors.Join(b.spoil(ctx, tx, "bad", sizes...), b.spoil(ctx, tx, "worse", sizes...)); err != nil {
				return err
			}
		}
		return nil
	}))
}

// drained waits until all that can be published is.
func (b *bench) drained() relay.Backlog {
	b.t.Helper()
	var backlog relay.Backlog
	await.True(b.t, 30*time.Second, "the backlog is empty", func() bool {
		var err error
		backlog, err = relay.LoadBacklog(b.t.Context(), b.db)
		must(b.t, err)
		return backlog.Rows == 0
	})
	return backlog
}

// requireParked demands that the log holds each committed row once, dense and
// in order per key; of the keys in last only the facts up to that number.
func (b *bench) requireParked(last map[string]int64) {
	b.t.Helper()
	if got := b.drained().Parked; got != int64(len(last)) {
		b.t.Errorf("%d keys are parked, want %d", got, len(last))
	}
	want := map[string]int64{}
	rows, err := b.db.SQL().QueryContext(b.t.Context(), `select o.key, max(o.sequence) from outbox o group by o.key`)
	must(b.t, err)
	defer rows.Close()
	for rows.Next() {
		var (
			key string
			n   int64
		)
		must(b.t, rows.Scan(&key, &n))
		if parked, ok := last[key]; ok {
			n = parked
		}
		want[key] = n
	}
	must(b.t, rows.Err())
	got := map[string]int64{}
	for _, rec := range b.log() {
		e, err := event.Decode(rec.Key, rec.Headers, rec.Value)
		must(b.t, err)
		if e.Sequence != got[e.Key]+1 {
			b.t.Errorf("key %s: sequence %d after %d", e.Key, e.Sequence, got[e.Key])
		}
		got[e.Key] = e.Sequence
	}
	for key, n := range want {
		if got[key] != n {
			b.t.Errorf("key %s: the log ends with its sequence %d, want %d", key, got[key], n)
		}
	}
}

var mixed = map[string]int64{"bad": 2, "worse": 2}

func TestRelay_RecordRefused_ParksItsKeyAndEverythingElseFlows(t *testing.T) {
	b := setupStrict(t)
	b.start(b.relay(nil))
	b.writeMixed()
	b.requireParked(mixed)
	for i := range 6 {
		b.write("bad", 1)
		b.write(fmt.Sprint("key", i), 2)
	}
	b.requireParked(mixed)
	b.write("bad", 1)
	if got, err := relay.LoadBacklog(t.Context(), b.db); err != nil || got.Rows != 0 {
		t.Errorf("backlog with only a parked key's new row = %+v, %v; want none", got, err)
	}
}

func TestRelay_EveryRowOfAChunkParked_GoesOn(t *testing.T) {
	b := setupStrict(t)
	b.start(b.relay(nil))
	must(t, b.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return b.spoil(ctx, tx, "bad", huge, 1) }))
	b.requireParked(map[string]int64{"bad": 0})
	for i := range 12 {
		b.write(fmt.Sprint("key", i), 2)
	}
	b.requireParked(map[string]int64{"bad": 0})
}

func TestRelay_BatchesRefusedForTheirSum_NothingIsParked(t *testing.T) {
	b := setupStrict(t)
	for i := range 5 {
		b.write(fmt.Sprint("key", i), 150)
	}
	b.start(b.relay(nil))
	b.requireParked(nil)
	b.requireExact()
}

func TestRelay_RowRefusedInALargeBacklog_LaterChunksLeaveItsKeyOut(t *testing.T) {
	b := setupStrict(t)
	b.writeMixed()
	for range 4 {
		b.writeMixed()
	}
	small := func(c *relay.Config) { c.ChunkRows, c.ChunkBytes = 33, 8<<10 }
	// The chunk that lost rows by parking is read again by another relay.
	set, err := failpoint.Parse("relay.after_park=error")
	must(t, err)
	if err := b.relay(nil, small).Flush(failpoint.With(t.Context(), set)); err == nil {
		t.Fatal("no key was parked")
	}
	b.start(b.relay(nil, small))
	b.requireParked(mixed)
}

func TestRelay_DiesWhileItSendsPieces_NextOnePublishesOnce(t *testing.T) {
	for point, hits := range map[string][]int{
		"relay.before_piece": {1, 2, 3, 4, 6, 9},
		"relay.after_piece":  {1, 2, 3, 4, 5},
		"relay.after_park":   {1, 2},
	} {
		for _, hit := range hits {
			t.Run(fmt.Sprintf("%s@%d", point, hit), func(t *testing.T) {
				b := setupStrict(t)
				for i := range 12 {
					b.write(fmt.Sprint("key", i), 1)
				}
				must(t, b.relay(nil).Flush(t.Context()))
				set, err := failpoint.Parse(fmt.Sprintf("%s=error@%d", point, hit))
				must(t, err)
				b.writeMixed()
				if err := b.relay(nil).Flush(failpoint.With(t.Context(), set)); err == nil {
					t.Fatalf("the run never died at %s", point)
				}
				b.write("key0", 2)
				b.start(b.relay(nil))
				b.start(b.relay(nil))
				b.requireParked(mixed)
				b.write("bad", 1)
				for i := range 12 {
					b.write(fmt.Sprint("key", i), 1)
				}
				b.requireParked(mixed)
			})
		}
	}
}

func TestRelay_BatchRefused_OtherPartitionsComeFirst(t *testing.T) {
	b := setupStrict(t)
	b.writeMixed()
	refused := map[int32]bool{broker.Partition([]byte("bad"), partitions): true, broker.Partition([]byte("worse"), partitions): true}
	set, err := failpoint.Parse("relay.before_piece=error")
	must(t, err)
	if err := b.relay(nil).Flush(failpoint.With(t.Context(), set)); err == nil {
		t.Fatal("no piece was sent")
	}
	got, want := len(b.log()), 0
	for i := range 12 {
		if !refused[broker.Partition(fmt.Append(nil, "key", i), partitions)] {
			want += 4
		}
	}
	if want == 0 || got != want {
		t.Errorf("before the first piece the log holds %d records, want the %d of the other partitions", got, want)
	}
}

func TestRelay_ThreeRelaysAnswersLostAndManyRecordsRefused_EachOtherRowOnce(t *testing.T) {
	b := setupStrict(t)
	b.start(b.relay(&lossy{Client: b.client}, func(c *relay.Config) { c.Overdue = time.Millisecond }))
	b.start(b.relay(nil, func(c *relay.Config) { c.Overdue = time.Millisecond }))
	b.start(b.relay(&lossy{Client: b.client}, func(c *relay.Config) { c.Overdue = 5 * time.Millisecond }))
	last := map[string]int64{}
	var wg sync.WaitGroup
	for w := range 3 {
		for i := range 5 {
			last[fmt.Sprintf("bad%d-%d", w, i)] = int64(i)
		}
		wg.Go(func() {
			for i := range 5 {
				sizes := make([]int, i+4)
				sizes[i] = huge
				err := b.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
					for k := range 6 {
						if err := b.append(ctx, tx, fmt.Sprintf("key%d-%d", w, k), 2); err != nil {
							return err
						}
					}
					return b.spoil(ctx, tx, fmt.Sprintf("bad%d-%d", w, i), sizes...)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.requireParked(last)
}

// forgetful loses a piece that it acknowledged, as a broker does whose log was
// cut off by a crash. A piece is a request with one batch of fewer records than
// the partition's whole.
type forgetful struct {
	*broker.Client
	lose int // the piece to lose, from 1 on

	mu     sync.Mutex
	pieces int
	lost   bool
}

func (f *forgetful) Produce(ctx context.Context, batches []*broker.Batch) []broker.Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(batches) == 1 && batches[0].Size() <= maxMessage && !f.lost {
		if f.pieces++; f.pieces == f.lose {
			f.lost = true
			return []broker.Result{{Offset: -1}}
		}
	}
	return f.Client.Produce(ctx, batches)
}

func TestRelay_BrokerLosesAPieceItAcknowledged_IsHealedPieceByPiece(t *testing.T) {
	for lose := 1; lose <= 6; lose++ {
		t.Run(fmt.Sprint("piece", lose), func(t *testing.T) {
			b := setupStrict(t)
			for i := range 12 {
				b.write(fmt.Sprint("key", i), 1)
			}
			must(t, b.relay(nil).Flush(t.Context()))
			b.writeMixed()
			f := &forgetful{Client: b.client, lose: lose}
			must(t, b.relay(f).Flush(t.Context()))
			if !f.lost {
				t.Fatalf("only %d pieces were sent", f.pieces)
			}
			b.start(b.relay(nil))
			for i := range 12 { // every partition goes on
				b.write(fmt.Sprint("key", i), 1)
			}
			b.requireParked(mixed)
		})
	}
}

// stalledPiece holds the piece of the given number until released.
type stalledPiece struct {
	*broker.Client
	at               int
	n                int
	reached, release chan struct{}
}

func (s *stalledPiece) Produce(ctx context.Context, batches []*broker.Batch) []broker.Result {
	if len(batches) == 1 {
		if s.n++; s.n == s.at {
			close(s.reached)
			<-s.release
		}
	}
	return s.Client.Produce(ctx, batches)
}

func TestRelay_StoppedWithAPieceInHand_FollowsWhatOthersDidMeanwhile(t *testing.T) {
	for at := 1; at <= 5; at++ {
		t.Run(fmt.Sprint("piece", at), func(t *testing.T) {
			b := setupStrict(t)
			for i := range 12 {
				b.write(fmt.Sprint("key", i), 1)
			}
			must(t, b.relay(nil).Flush(t.Context()))
			b.writeMixed()
			zombie := &stalledPiece{Client: b.client, at: at, reached: make(chan struct{}), release: make(chan struct{})}
			b.start(b.relay(zombie))
			<-zombie.reached
			// Another relay goes on and dies with the chunk still open.
			set, err := failpoint.Parse("relay.before_piece=error@6")
			must(t, err)
			await.True(t, 30*time.Second, "the other relay dies", func() bool {
				return b.relay(nil).Flush(failpoint.With(t.Context(), set)) != nil
			})
			close(zombie.release)
			b.requireParked(mixed)
		})
	}
}
