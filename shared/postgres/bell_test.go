package postgres_test

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

// house is a table with a bell.
type house struct {
	t    *testing.T
	url  string
	name string // of the bells' sessions
	db   *postgres.DB
}

func newHouse(t *testing.T) *house {
	t.Helper()
	t.Parallel()
	h := &house{t: t, url: pgtest.URL(t), name: crand.Text()}
	h.db = pgtest.Open(t, h.url)
	must(t, h.db.InTx(t.Context(), exec(`create table work (id bigserial)`)))
	return h
}

func (h *house) open(url string) *postgres.Bell {
	h.t.Helper()
	b, err := postgres.OpenBell(postgres.Config{URL: url, Name: h.name}, "work")
	must(h.t, err)
	h.t.Cleanup(func() { b.Close() })
	return b
}

// bell opens a bell and waits until it can be heard.
func (h *house) bell() *postgres.Bell {
	h.t.Helper()
	b := h.open(h.url)
	await.True(h.t, 30*time.Second, "the bell is heard", func() bool {
		_, err := b.Sleep(h.t.Context())
		return err == nil
	})
	must(h.t, b.Wake(h.t.Context()))
	return b
}

func addWork(ctx context.Context, tx *sqlx.Tx) error {
	_, err := tx.ExecContext(ctx, `insert into work select nextval('work_id_seq') + $1 where `+postgres.Ring("work"), 0)
	return err
}

// worker looks for work, sleeps by the bell when there is none, and waits very
// long for a ring.
type worker struct {
	*house
	bell     *postgres.Bell
	seen     atomic.Int64
	progress chan struct{} // told after each change of seen
	asleep   bool
	naps     int
	lost     int
}

func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		var n int64
		if err := w.db.Get(ctx, &n, `select count(*) from work where id > $1`, 0); err != nil {
			continue // the end of ctx
		}
		if n > w.seen.Load() {
			if w.asleep {
				w.asleep = false
				_ = w.bell.Wake(ctx)
			}
			w.seen.Store(n)
			select {
			case w.progress <- struct{}{}:
			default:
			}
			continue
		}
		w.rest(ctx)
	}
}

func (w *worker) rest(ctx context.Context) {
	if !w.asleep {
		w.asleep, _ = w.bell.Sleep(ctx)
		return // to look again
	}
	w.naps++
	select {
	case <-w.bell.Rung():
	case <-time.After(30 * time.Second):
		w.lost++
	case <-ctx.Done():
	}
}

func TestBell_WritersCommitAtAnyMoment_NoRingIsLost(t *testing.T) {
	h := newHouse(t)
	progress := make(chan struct{}, 1)
	workers := []*worker{{house: h, bell: h.bell(), progress: progress}, {house: h, bell: h.bell(), progress: progress}}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, w := range workers {
		running.Go(func() { w.run(ctx) })
	}
	const rounds = 2000
	rng := rand.New(rand.NewPCG(4, 2))
	for n := range int64(rounds) {
		spin(rng.Int64N(2000))
		must(t, h.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			defer spin(rng.Int64N(500))
			return addWork(ctx, tx)
		}))
		for workers[0].seen.Load() <= n && workers[1].seen.Load() <= n {
			select {
			case <-progress:
			case <-time.After(30 * time.Second):
				t.Fatal("nobody sees the work")
			}
		}
	}
	cancel()
	running.Wait()
	for i, w := range workers {
		if w.lost > 0 {
			t.Errorf("worker %d: %d of %d rings were lost", i, w.lost, rounds)
		}
	}
	if workers[0].naps+workers[1].naps < rounds/10 {
		t.Errorf("the workers slept %d and %d times; they did not need the bell", workers[0].naps, workers[1].naps)
	}
}

// spin lasts some microseconds, so that over many rounds a writer meets each
// step of those who fall asleep.
func spin(micros int64) {
	for begin := time.Now(); time.Since(begin) < time.Duration(micros)*time.Microsecond; {
		runtime.Gosched()
	}
}

func TestBell_WriterAtWork_NobodyFallsAsleepBeforeItsEnd(t *testing.T) {
	h := newHouse(t)
	b := h.bell()
	must(t, h.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if err := addWork(ctx, tx); err != nil {
			return err
		}
		if asleep, err := b.Sleep(ctx); asleep || err != nil {
			t.Errorf("Sleep beside a writer = %t, %v", asleep, err)
		}
		return nil
	}))
	if asleep, err := b.Sleep(t.Context()); !asleep || err != nil {
		t.Errorf("Sleep after the writer's end = %t, %v", asleep, err)
	}
}

func TestBell_Asleep_IsRungAtTheCommitAndNotBefore(t *testing.T) {
	h := newHouse(t)
	b := h.bell()
	asleep, err := b.Sleep(t.Context())
	if must(t, err); !asleep {
		t.Fatal("Sleep = false without a writer")
	}
	drain(b)
	must(t, h.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		err := addWork(ctx, tx)
		select {
		case <-b.Rung():
			t.Error("the bell rang before the commit")
		default:
		}
		return err
	}))
	select {
	case <-b.Rung():
	case <-time.After(30 * time.Second):
		t.Fatal("the commit did not ring")
	}
}

// drain takes the ring that proved the bell.
func drain(b *postgres.Bell) {
	select {
	case <-b.Rung():
	default:
	}
}

func TestBell_ItsSessionsAreEnded_IsHeardAgain(t *testing.T) {
	h := newHouse(t)
	b := h.bell()
	for range 2 {
		_, err := b.Sleep(t.Context())
		must(t, err)
		must(t, h.db.InTx(t.Context(), exec(`select pg_terminate_backend(pid, 5000) from pg_stat_activity
where application_name = $1`, h.name+"-bell")))
		await.True(t, 30*time.Second, "the bell notices", func() bool {
			_, err := b.Sleep(t.Context())
			return err != nil
		})
		await.True(t, 30*time.Second, "the bell is heard again", func() bool {
			asleep, err := b.Sleep(t.Context())
			return err == nil && asleep
		})
	}
}

func TestBell_Asleep_HoldsUntilItWakesOrItsSessionEnds(t *testing.T) {
	h := newHouse(t)
	b, other := h.bell(), h.bell()
	ctx := t.Context()
	sleeps := func(b *postgres.Bell) {
		t.Helper()
		if asleep, err := b.Sleep(ctx); !asleep || err != nil {
			t.Fatalf("Sleep = %t, %v", asleep, err)
		}
	}
	requireHolds := func(when string, b *postgres.Bell, want bool) {
		t.Helper()
		if got := b.Holds(ctx); got != want {
			t.Errorf("%s: Holds = %t, want %t", when, got, want)
		}
	}
	requireHolds("before it sleeps", b, false)
	sleeps(b)
	sleeps(b) // as often as one likes: it wakes once
	requireHolds("asleep", b, true)
	sleeps(other)
	requireHolds("while another one has the lock", other, false)
	must(t, b.Wake(ctx))
	requireHolds("awake", b, false)
	sleeps(other)
	requireHolds("with the lock that the other one has left", other, true)
	must(t, h.db.InTx(ctx, exec(`select pg_terminate_backend(pid, 5000) from pg_stat_activity
where application_name = $1 and query = 'select true'`, h.name+"-bell")))
	requireHolds("after the end of its session", other, false)
}

func TestBell_NotificationsDoNotComeThrough_SaysSoAndHoldsNoLock(t *testing.T) {
	// As behind a pooler that hands out transactions: statements work, and what a
	// session listens for is lost.
	h := newHouse(t)
	b := h.open(deaf(t, h.url))
	answered := 0
	await.True(t, 30*time.Second, "the bell has tried to hear itself", func() bool {
		asleep, err := b.Sleep(t.Context())
		if asleep || err == nil {
			t.Fatalf("Sleep = %t, %v", asleep, err)
		}
		if errors.Is(err, postgres.ErrUnheard) {
			answered++
		}
		return answered > 50
	})
	var locks int
	must(t, h.db.Get(t.Context(), &locks, `select count(*) from pg_locks
where locktype = 'advisory' and objid = 'work'::regclass::oid and $1 = 1`, 1))
	if locks != 0 {
		t.Errorf("%d locks are held", locks)
	}
}

// deaf returns the URL of a server in front of the one at raw that keeps all
// notifications to itself.
func deaf(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	must(t, err)
	server := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			go func() { _, _ = io.Copy(upstream, client); upstream.Close() }()
			go func() { keepNotifications(client, upstream); client.Close() }()
		}
	}()
	u.Host = l.Addr().String()
	return u.String()
}

// keepNotifications passes the server's messages on but for NotificationResponse.
func keepNotifications(client io.Writer, server io.Reader) {
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(server, head); err != nil {
			return
		}
		to := client
		if head[0] == 'A' {
			to = io.Discard
		}
		_, err := to.Write(head)
		if err == nil {
			_, err = io.CopyN(to, server, int64(binary.BigEndian.Uint32(head[1:]))-4)
		}
		if err != nil {
			return
		}
	}
}
