package relay_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/failpoint"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

// past is a bench whose database can be set back in time, as from a backup.
type past struct {
	*bench
	name  string // of the database
	admin *postgres.DB
}

func setupPast(t *testing.T) *past {
	t.Helper()
	t.Parallel()
	addr := brokertest.Start(t)
	at, err := url.Parse(pgtest.Database(t))
	must(t, err)
	p := &past{bench: setupAt(t, addr, brokertest.Topic(t, addr, partitions), at.String()), name: strings.TrimPrefix(at.Path, "/")}
	at.Path = "/postgres"
	p.admin = pgtest.Open(t, at.String())
	t.Cleanup(func() { p.sql(`drop database if exists ` + p.name + `_backup`) })
	return p
}

func (p *past) sql(statement string) {
	p.t.Helper()
	_, err := p.admin.SQL().ExecContext(context.Background(), statement)
	must(p.t, err)
}

// backup copies the database, whole, as it is now.
func (p *past) backup() {
	p.t.Helper()
	must(p.t, errors.Join(p.db.Close(), p.pool.Close()))
	p.sql(`create database ` + p.name + `_backup template ` + p.name)
	p.open()
}

// restore puts the copy in the database's place, under the feet of whoever works
// on it.
func (p *past) restore() {
	p.t.Helper()
	p.sql(`drop database ` + p.name + ` with (force)`)
	p.sql(`alter database ` + p.name + `_backup rename to ` + p.name)
	p.open()
}

func (p *past) open() {
	p.t.Helper()
	pool, err := postgres.Open(relay.Pool(p.url))
	must(p.t, err)
	p.t.Cleanup(func() { pool.Close() })
	p.db, p.pool = pgtest.Open(p.t, p.url), pool
}

// publish brings n facts of a key into the log, each in a chunk of its own.
func (p *past) publish(key string, n int) {
	p.t.Helper()
	r := p.relay(nil)
	for range n {
		p.write(key, 1)
		must(p.t, r.Flush(p.t.Context()))
	}
}

// requireRefused demands that a new relay refuses, names the place, and does
// nothing.
func (p *past) requireRefused(at broker.Position) {
	p.t.Helper()
	const headSQL = `select (select count(*) from relay_journal), (select count(*) from relay_ack)`
	var before, after [2]int
	must(p.t, p.db.SQL().QueryRowContext(p.t.Context(), headSQL).Scan(&before[0], &before[1]))
	held := len(p.log())
	err := p.relay(nil).Flush(p.t.Context())
	if !errors.Is(err, relay.ErrRefuse) {
		p.t.Fatalf("Flush with Kafka ahead of the database = %v, want ErrRefuse", err)
	}
	if text := err.Error(); !strings.Contains(text, "at "+at.String()+" lie") || strings.Contains(text, "\n") {
		p.t.Errorf("the relay says %q; want one line that names %s", text, at)
	}
	if n := len(p.log()); n != held {
		p.t.Errorf("%d records were written", n-held)
	}
	must(p.t, p.db.SQL().QueryRowContext(p.t.Context(), headSQL).Scan(&after[0], &after[1]))
	if before != after {
		p.t.Errorf("the journal went from %v chunks and acknowledgements to %v", before, after)
	}
}

// place is where the n-th record of a key lies that is alone in its partition.
func (p *past) place(key string, n int64) broker.Position {
	return broker.Position{Topic: p.topic, Partition: broker.Partition([]byte(key), partitions), Offset: n}
}

// adopt has the outbox go on as it is, and demands that its waiting rows, n in
// all, come into the log, and that no relay refuses any more.
func (p *past) adopt(n int) {
	p.t.Helper()
	held := len(p.log())
	producer, err := p.client.InitProducer(p.t.Context())
	must(p.t, err)
	must(p.t, relay.Adopt(p.t.Context(), p.db, producer))
	must(p.t, p.relay(nil).Flush(p.t.Context()))
	if got := len(p.log()) - held; got != n {
		p.t.Errorf("%d records came behind the adoption, want %d", got, n)
	}
	p.publish("key", 2)
	if got := len(p.log()) - held; got != n+2 {
		p.t.Errorf("%d records came behind the adoption and two more, want %d", got, n+2)
	}
}

func TestRelay_DatabaseSetBack_RefusesAndPublishesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		acked int    // chunks
		point string // at which the relay of one more dies
	}{
		"all was in the log":          {2, ""},
		"a chunk was planned":         {2, "relay.after_plan"},
		"a chunk was sent":            {2, "relay.after_ack"},
		"the first chunk was planned": {0, "relay.after_plan"},
	} {
		t.Run(name, func(t *testing.T) {
			p := setupPast(t)
			p.publish("key", c.acked)
			open := 0
			if c.point != "" {
				set, err := failpoint.Parse(c.point + "=error")
				must(t, err)
				p.write("key", 1)
				open = 1
				if err := p.relay(nil).Flush(failpoint.With(t.Context(), set)); err == nil {
					t.Fatalf("the relay did not die at %s", c.point)
				}
			}
			p.backup()
			p.publish("key", 3)
			p.restore()
			p.write("key", 1) // under the number of one that is lost
			p.requireRefused(p.place("key", int64(c.acked+open)))
			p.adopt(open + 1)
		})
	}
}

// keyBeside returns another key of the key's partition when beside, else one of
// another partition.
func (p *past) keyBeside(key string, beside bool) string {
	for i := 0; ; i++ {
		other := fmt.Sprint(key, i)
		if (p.place(other, 0).Partition == p.place(key, 0).Partition) == beside {
			return other
		}
	}
}

// The end of an open chunk can be rows that were parked later. What came behind
// them bears their sequence numbers.
func TestRelay_DatabaseSetBackToBeforeAKeyWasParked_Refuses(t *testing.T) {
	p := setupPast(t)
	publisher := p.picky()
	p.publish("key", 1)
	must(t, p.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		return errors.Join(p.spoil(ctx, tx, "key", 1), p.spoil(ctx, tx, p.keyBeside("key", true), huge), p.spoil(ctx, tx, "key", 1))
	}))
	set, err := failpoint.Parse("relay.after_plan=error")
	must(t, err)
	if err := p.relay(publisher).Flush(failpoint.With(t.Context(), set)); err == nil {
		t.Fatal("the relay did not die after its plan")
	}
	p.backup()
	must(t, p.relay(publisher).Flush(t.Context()))
	p.publish("key", 1)
	if got := p.drained().Parked; got != 1 {
		t.Fatalf("%d keys were parked, want 1", got)
	}
	p.restore()
	p.write("key", 1)
	if err := p.relay(publisher).Flush(t.Context()); !errors.Is(err, relay.ErrRefuse) || !strings.Contains(err.Error(), p.place("key", 3).String()) {
		t.Errorf("Flush with Kafka ahead of the database = %v, want ErrRefuse at %s", err, p.place("key", 3))
	}
}

// A partition into which nothing had gone when the backup was made.
func TestRelay_DatabaseSetBackAndKafkaIsAheadInAnotherPartition_Refuses(t *testing.T) {
	p := setupPast(t)
	p.publish("key", 1)
	p.backup()
	other := p.keyBeside("key", false)
	p.publish(other, 1)
	p.restore()
	p.requireRefused(p.place(other, 0))
}

func TestRelay_DatabaseSetBackWhileItRuns_Refuses(t *testing.T) {
	for name, emptied := range map[string]bool{"as from a dump": false, "as by a promotion": true} {
		t.Run(name, func(t *testing.T) {
			p := setupPast(t)
			p.publish("key", 2)
			if emptied { // unlogged tables come back empty
				p.exec(`truncate relay_incarnation`)
			}
			p.backup()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- p.relay(nil).Run(ctx) }()
			for i := range 3 {
				p.write("key", 1)
				p.await(3 + i)
			}
			p.restore()
			p.write("key", 1)
			if err := <-done; !errors.Is(err, relay.ErrRefuse) {
				t.Fatalf("Run when the database was set back = %v, want ErrRefuse", err)
			}
			if n := len(p.log()); n != 5 {
				t.Errorf("the log holds %d records, want the 5 from before", n)
			}
		})
	}
}

// stray writes the log's first record again, n times a megabyte's worth, as
// somebody else does.
func (b *bench) stray(n int) {
	b.t.Helper()
	producer, err := b.client.InitProducer(b.t.Context())
	must(b.t, err)
	first := b.log()[0]
	var copies broker.Batch
	for i := range n {
		copies.Reset(first.Topic, first.Partition)
		for range 9 {
			copies.Add(first.Time.UnixMilli(), first.Key, make([]byte, 100<<10), nil)
		}
		copies.Seal(producer, 100+int32(9*i))
		must(b.t, b.client.Produce(b.t.Context(), []*broker.Batch{&copies})[0].Err)
	}
}

func TestRelay_OthersWriteBehindTheAcknowledgedEnd_GoesOn(t *testing.T) {
	b := setup(t)
	b.write("key", 3)
	must(t, b.relay(nil).Flush(t.Context()))
	b.stray(2)
	b.write("key", 2)
	must(t, b.relay(nil).Flush(t.Context()))
	if n := len(b.log()); n != 5+2*9 {
		t.Errorf("the log holds %d records, want 5 and the strays", n)
	}
}

// More of it than one look takes in does not hide what comes behind.
func TestRelay_DatabaseSetBackAndOthersHaveWrittenMuch_Refuses(t *testing.T) {
	p := setupPast(t)
	p.publish("key", 2)
	p.backup()
	p.stray(11)
	p.publish("key", 1)
	p.restore()
	p.requireRefused(p.place("key", 2+11*9))
}

// looking calls between before the log is read.
type looking struct {
	*broker.Client
	between func()
}

func (l *looking) Offsets(ctx context.Context, topics ...string) (map[string][]broker.Range, error) {
	l.between()
	return l.Client.Offsets(ctx, topics...)
}

func TestRelay_AnotherRelayGoesOnWhileTheLogIsCompared_GoesOnToo(t *testing.T) {
	b := setup(t)
	b.write("key", 1)
	must(t, b.relay(nil).Flush(t.Context()))
	went := 0
	late := &looking{Client: b.client, between: sync.OnceFunc(func() {
		for range 3 {
			b.write("key", 2)
			must(t, b.relay(nil).Flush(t.Context()))
			went++
		}
	})}
	b.write("key", 1)
	must(t, b.relay(late).Flush(t.Context()))
	if went != 3 {
		t.Fatalf("the other relay went on %d times, want 3", went)
	}
	b.requireExact()
}

func TestAdopt_JournalWithoutAChunk_SaysThatNothingIsToBeDone(t *testing.T) {
	b := setup(t)
	if err := relay.Adopt(t.Context(), b.db, broker.Producer{ID: 1}); err == nil || !strings.Contains(err.Error(), "nothing to adopt") {
		t.Errorf("Adopt of an empty journal = %v", err)
	}
}
