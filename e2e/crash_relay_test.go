package e2e_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/failpoint"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

const (
	relayKeys    = 12
	refusedKeys  = 2
	relayRounds  = 5 // of facts, of every key
	largestBatch = 12 << 10
	tooLarge     = 16 << 10 // alone refused
)

// loss is what the broker claims to have forgotten of a relay's records.
type loss string

const (
	nothingLost loss = ""
	oneLost     loss = "one" // the batch before, once
	allLost     loss = "all" // every batch of the producer's first epoch
)

// lossy is a broker that answers as one does that has lost records: by a gap in
// the sequence, taking nothing.
type lossy struct {
	*broker.Client
	db   *postgres.DB
	loss loss
	told bool
}

func (l *lossy) Produce(ctx context.Context, batches []*broker.Batch) []broker.Result {
	if !l.gap(ctx) {
		return l.Client.Produce(ctx, batches)
	}
	results := make([]broker.Result, len(batches))
	for i := range results {
		results[i].Err = broker.ErrSequenceGap
	}
	return results
}

func (l *lossy) gap(ctx context.Context) bool {
	if l.loss == oneLost {
		first := !l.told
		l.told = true
		return first
	}
	var epoch int
	err := l.db.Get(ctx, &epoch, `select coalesce(max(producer_epoch), 0) from relay_journal`)
	return err == nil && epoch == 0
}

// padded is a fact of any size.
type padded struct {
	ID  string `json:"id"`
	Pad string `json:"pad"`
}

func (padded) Kind() string  { return "fact.told.v1" }
func (p padded) Key() string { return p.ID }

// relayCell is a point that no path of the saga leads to, and what does.
type relayCell struct {
	point string
	loss  loss
}

func relayCells() (cells []relayCell) {
	for _, p := range points() {
		c := relayCell{point: p.name}
		switch {
		case !p.relay:
			continue
		case strings.HasSuffix(p.name, "_heal"):
			c.loss = oneLost
		case strings.HasSuffix(p.name, "_epoch"):
			c.loss = allLost
		}
		cells = append(cells, c)
	}
	return cells
}

// The relay dies at each point of its ways around a fault: batches that Kafka
// refuses, records it refuses for themselves, records it has lost. Whoever goes
// on brings each row into the log once, in order, but those of a refused key.
func TestCrashRelay_RefusedAndLostRecords_EachRowOnceInOrder(t *testing.T) {
	t.Parallel()
	addr := brokertest.Start(t)
	cells := relayCells()
	if size := os.Getenv(crashSizeEnv); size == "" || size == "tiny" {
		cells = slices.DeleteFunc(cells, func(c relayCell) bool {
			return !slices.Contains([]string{"relay.after_piece", "relay.after_heal", "relay.after_epoch"}, c.point)
		})
	}
	kills := 0
	for _, c := range cells {
		lives := [][]int{{1, 1}, {2}}
		switch {
		case c.point == "relay.after_epoch": // the next life finds the new epoch
			lives = [][]int{{1}}
		case c.loss != nothingLost:
			lives = [][]int{{1, 1}}
		}
		for _, hits := range lives {
			t.Run(fmt.Sprintf("%s@%v", c.point, hits), func(t *testing.T) {
				newRelayBench(t, addr).crash(c, hits)
				kills += len(hits)
			})
		}
	}
	t.Logf("crash matrix of the relay alone: %d kills at %d points", kills, len(cells))
}

// relayBench is an outbox, its topic, and what was written.
type relayBench struct {
	t      *testing.T
	db     *postgres.DB
	client *broker.Client
	topic  string
	job    relayJob
	want   map[string]int64 // by key, the last number that must be in the log
}

func newRelayBench(t *testing.T, addr string) *relayBench {
	t.Helper()
	url := pgtest.URL(t)
	b := &relayBench{t: t, db: pgtest.Open(t, url), topic: "t-" + strings.ToLower(rand.Text()), want: map[string]int64{}}
	pgtest.Migrate(t, b.db, kit())
	var err error
	b.client, err = broker.Dial(broker.Config{Brokers: strings.Split(addr, ",")})
	must(t, err)
	t.Cleanup(b.client.Close)
	must(t, b.client.EnsureTopics(t.Context(), []broker.Topic{{
		Name: b.topic, Partitions: publishPartitions, ReplicationFactor: 1, Configs: map[string]string{"max.message.bytes": fmt.Sprint(largestBatch)},
	}}))
	b.job = relayJob{Database: url, Brokers: addr, Topic: b.topic, Failpoints: freshDir(t)}
	return b
}

// write commits facts of all keys, numbered from first to last, in one
// transaction, so that they share a chunk.
func (b *relayBench) write(first, last int64, pad func(key int, n int64) int) {
	b.t.Helper()
	out, err := outbox.New(outbox.Config{Source: "/e2e", Topics: event.Topics{"fact": b.topic}})
	must(b.t, err)
	must(b.t, b.db.InTx(b.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		for n := first; n <= last; n++ {
			for i := range relayKeys {
				f := padded{ID: fmt.Sprint("key", i), Pad: strings.Repeat("x", pad(i, n))}
				if err := out.Append(ctx, tx, event.Number(n, f)...); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// prepare brings a small chunk into the log, so that there is something that can
// be lost, and writes a large one, too large for one batch. The third facts of
// two keys are too large alone: in the log these keys end before them.
func (b *relayBench) prepare() {
	b.t.Helper()
	b.write(1, 1, func(int, int64) int { return 1 })
	r, err := relay.New(relay.Config{DB: b.db, Publisher: b.client, Partitions: publishPartitions})
	must(b.t, err)
	must(b.t, r.Flush(b.t.Context()))
	b.write(2, relayRounds, func(key int, n int64) int {
		if key < refusedKeys && n == 3 {
			return tooLarge
		}
		return 2 << 10
	})
	for i := range relayKeys {
		b.want[fmt.Sprint("key", i)] = relayRounds
		if i < refusedKeys {
			b.want[fmt.Sprint("key", i)] = 2
		}
	}
}

// crash lets a relay die as asked for, life by life, and then one live until all
// is in the log.
func (b *relayBench) crash(c relayCell, hits []int) {
	b.t.Helper()
	b.prepare()
	b.job.Loss = c.loss
	var script []string
	for _, hit := range hits {
		script = append(script, fmt.Sprintf("%s=kill@%d", c.point, hit))
	}
	path := filepath.Join(b.job.Failpoints, relayName)
	must(b.t, failpoint.Write(path, script...))
	for n, hit := range hits {
		cmd := startRelay(b.t, b.job)
		timer := time.AfterFunc(orderLimit, func() { cmd.Process.Signal(syscall.SIGTERM) }) //nolint:errcheck // it may be over
		err := cmd.Wait()
		timer.Stop()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			b.t.Fatalf("life %d did not come to hit %d of %s: %v", n+1, hit, c.point, err)
		}
	}
	cmd := startRelay(b.t, b.job)
	b.drain()
	must(b.t, cmd.Process.Signal(syscall.SIGTERM))
	must(b.t, cmd.Wait())
	b.check()
}

// drain waits until everything is in the log that can be.
func (b *relayBench) drain() {
	b.t.Helper()
	deadline := time.NewTimer(orderLimit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		backlog, err := relay.LoadBacklog(b.t.Context(), b.db)
		must(b.t, err)
		if backlog.Rows == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			b.t.Fatalf("%d rows are not in the log", backlog.Rows)
		}
	}
}

// check reads the whole log: each key's numbers must be dense, once, in order,
// and end where they should.
func (b *relayBench) check() {
	b.t.Helper()
	ranges, err := b.client.Offsets(b.t.Context(), b.topic)
	must(b.t, err)
	var at []broker.Position
	for p, r := range ranges[b.topic] {
		if r.End > r.First {
			at = append(at, broker.Position{Topic: b.topic, Partition: int32(p), Offset: r.First})
		}
	}
	left := func() (n int64) {
		for _, p := range at {
			n += ranges[b.topic][p.Partition].End - p.Offset
		}
		return n
	}
	last := map[string]int64{}
	for left() > 0 {
		got, err := b.client.Fetch(b.t.Context(), at, time.Second, 4<<20)
		must(b.t, err)
		for _, rec := range got.Records {
			e, err := event.Decode(rec.Key, rec.Headers, rec.Value)
			must(b.t, err)
			if e.Sequence != last[e.Key]+1 {
				b.t.Errorf("%s: number %d comes after %d", e.Key, e.Sequence, last[e.Key])
			}
			last[e.Key] = e.Sequence
		}
		at = got.Next
	}
	for key, n := range b.want {
		if last[key] != n {
			b.t.Errorf("%s: the log ends with number %d, want %d", key, last[key], n)
		}
	}
}
