package outage_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/postgres"
)

const keys = 40

// pressure is how hard is written. What a broker's fault leaves behind has to be caught up with, so there it is gentle;
// a crash of Postgres is to meet transactions of which some are just being committed.
type pressure struct {
	writers int
	tick    time.Duration // of each writer
}

func gentle() pressure { return pressure{4, 30 * time.Millisecond} }
func steady() pressure { return pressure{8, 8 * time.Millisecond} }

// outcome is what a writer was told of its transaction.
type outcome string

const (
	committed outcome = "committed"
	unknown   outcome = "unknown" // the answer to COMMIT was lost
	failed    outcome = "failed"
)

// written is a transaction as its writer knows it.
type written struct {
	key   string
	first int64
	count int
	told  outcome
}

// load is the writers and their own books: what the database says later is compared with these.
type load struct {
	pressure
	db     *postgres.DB
	out    *outbox.Outbox
	cancel context.CancelFunc
	wg     sync.WaitGroup

	turn sync.RWMutex // read by each transaction; locked, the writers wait

	mu    sync.Mutex
	books map[string]written // by token
	last  string             // the newest committed token
}

// start has the writers write until stop.
func (l *load) start() {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	begun := l.sum(committed) + l.sum(unknown) + l.sum(failed)
	for w := range l.writers {
		l.wg.Go(func() { l.write(ctx, w, begun) })
	}
}

// stop returns when no transaction is under way.
func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

func (l *load) write(ctx context.Context, w, begun int) {
	rng := rand.New(rand.NewPCG(uint64(w), uint64(begun)))
	tick := time.NewTicker(l.tick)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		token := fmt.Sprintf("%d-%d-%d", begun, w, n)
		tx := written{key: fmt.Sprint("k", rng.IntN(keys)), count: 1 + rng.IntN(3)}
		l.turn.RLock()
		// A transaction that was begun is ended: what is cancelled tells nothing.
		err := l.db.InTx(context.WithoutCancel(ctx), func(ctx context.Context, t *sqlx.Tx) error { return l.append(ctx, t, &tx, token) })
		l.turn.RUnlock()
		switch {
		case err == nil:
			tx.told = committed
		case errors.Is(err, postgres.ErrCommitUnknown):
			tx.told = unknown
		default:
			tx.told = failed
		}
		l.note(token, tx)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// append takes the next versions of a key under its row's lock, and tells them.
func (l *load) append(ctx context.Context, t *sqlx.Tx, w *written, token string) error {
	const next = `insert into counter (key, version) values ($1, $2)
on conflict (key) do update set version = counter.version + $2 returning version`
	var version int64
	if err := t.GetContext(ctx, &version, next, w.key, w.count); err != nil {
		return err
	}
	w.first = version - int64(w.count) + 1
	events := make([]event.Event, w.count)
	for i := range events {
		events[i] = fact{ID: w.key, Sequence: w.first + int64(i), Token: token, Filler: strings.Repeat("-", 300)}
	}
	return l.out.Append(ctx, t, event.Number(w.first, events...)...)
}

func (l *load) note(token string, w written) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.books[token] = w
	if w.told == committed {
		l.last = token
	}
}

// sum counts the transactions with an outcome.
func (l *load) sum(o outcome) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.books {
		if w.told == o {
			n++
		}
	}
	return n
}

func (l *load) newest() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}
