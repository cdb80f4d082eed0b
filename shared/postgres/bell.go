package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lib/pq"
)

// Bell wakes a sleeper when a transaction of another process has committed
// work for it. Writers ring only while somebody sleeps, so under load nobody
// does: a NOTIFY in every transaction would cost half their rate.
//
// A sleeper holds an advisory lock. A writer's statement tries to share that
// lock ([Ring]): where it cannot, somebody sleeps, and it notifies at its
// commit; where it can, nobody falls asleep before it has ended. So no ring is
// lost, provided that the sleeper looks for work once more after it has the
// lock.
//
// It needs two sessions of its own and so no pooler that hands out transactions
// in between; what it cannot hear it never relies on.
type Bell struct {
	table string
	db    *DB
	rung  chan struct{}
	end   context.CancelFunc
	ended chan struct{}

	mu    sync.Mutex // guards the next three
	id    string     // of the table, as rings name it; empty until it is known
	heard bool       // a ring came through on the present connection
	tried time.Time  // when we last rang for that

	conn  *sql.Conn // the session of the lock; nil: none
	holds bool      // the lock is ours, and not another sleeper's
}

// ErrUnheard says that rings do not come through now: the connection is new or
// lost, or a pooler stands between.
var ErrUnheard = errors.New("the database's notifications do not come through")

const (
	bellChannel = "pavane_bell"
	bellClass   = 0x70617661 // the first key of our advisory locks; the second is the table's oid
	bellRetry   = time.Second

	sleepSQL = `select case when pg_try_advisory_lock($1::integer, $2::bigint::oid::integer) then 'asleep'
  when pg_try_advisory_lock_shared($1::integer, $2::bigint::oid::integer) then 'writers' || pg_advisory_unlock_shared($1::integer, $2::bigint::oid::integer)::text
  else 'sleepers' end`
	wakeSQL = `select pg_advisory_unlock($1::integer, $2::bigint::oid::integer)`
)

// Ring returns the SQL condition, always true, by which a statement rings the
// bell of a table at the commit of its transaction, if anybody sleeps. It stands
// in a WHERE, within a scalar subquery where there are many rows: a RETURNING,
// for which Postgres stores the result first, would cost as much as a small
// insert.
func Ring(table string) string {
	return fmt.Sprintf(`case when pg_try_advisory_xact_lock_shared(%d, '%s'::regclass::oid::integer) then true
  else pg_notify('%s', '%[2]s'::regclass::oid::text) is not null end`,
		bellClass, table, bellChannel)
}

// OpenBell listens for the rings of a table in the database of cfg until Close.
// It does not wait for the connection.
func OpenBell(cfg Config, table string) (*Bell, error) {
	cfg.setDefaults()
	cfg.Name, cfg.MaxConns, cfg.ReadBuffer = cfg.Name+"-bell", 1, 0
	dsn, err := listenURL(cfg.URL, cfg.Name)
	if err != nil {
		return nil, err
	}
	db, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &Bell{table: table, db: db, rung: make(chan struct{}, 1), end: cancel, ended: make(chan struct{})}
	go func() {
		defer close(b.ended)
		b.listen(ctx, dsn)
	}()
	return b, nil
}

// listenURL is the URL for the driver's listener, which reads it itself.
func listenURL(s, name string) (string, error) {
	u, err := parseURL(s)
	if err != nil {
		return "", err
	}
	q := u.Query()
	q.Set("application_name", name)
	q.Set("connect_timeout", "5")
	if !q.Has("sslmode") {
		q.Set("sslmode", string(pq.SSLModeVerifyFull))
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// Rung delivers after a ring, and when rings may have been missed.
func (b *Bell) Rung() <-chan struct{} { return b.rung }

// Sleep makes writers ring from now on and answers true; the caller looks for
// work once more before it waits. False means that a writer is at work, and
// that its commit will not ring. Sleep, Holds and Wake are not for concurrent use.
func (b *Bell) Sleep(ctx context.Context) (bool, error) {
	if b.Holds(ctx) {
		return true, nil
	}
	if err := b.prove(ctx); err != nil {
		return false, err
	}
	var found string
	if err := b.query(ctx, &found, sleepSQL, bellClass, b.oid()); err != nil {
		return false, err
	}
	b.holds = found == "asleep"
	// Another sleeper makes the writers ring for us, too. When it wakes, we are
	// woken with it; until it sleeps again, it is the one who looks.
	return found == "asleep" || found == "sleepers", nil
}

// Holds asks the session of the lock whether writers have rung for us ever since
// Sleep answered true. It is false, too, when another sleeper has the lock, which
// may have been lost and taken in between.
func (b *Bell) Holds(ctx context.Context) bool {
	if !b.holds || !b.isHeard() {
		return false
	}
	var yes bool
	return b.query(ctx, &yes, `select true`) == nil
}

// Wake ends what Sleep began: writers ring no more.
func (b *Bell) Wake(ctx context.Context) error {
	if !b.holds {
		return nil
	}
	b.holds = false
	var held bool
	return b.query(ctx, &held, wakeSQL, bellClass, b.oid())
}

// Close stops listening.
func (b *Bell) Close() error {
	b.end()
	<-b.ended
	b.hangUp()
	return b.db.Close()
}

// query runs a query in the session of the lock. When it fails, so does the
// session: the lock must not stay behind in the pool.
func (b *Bell) query(ctx context.Context, dest any, query string, args ...any) error {
	if b.conn == nil {
		conn, err := b.db.SQL().Conn(ctx)
		if err != nil {
			return unavailable("bell", err)
		}
		b.conn = conn
	}
	if err := b.conn.QueryRowContext(ctx, query, args...).Scan(dest); err != nil {
		b.hangUp()
		return unavailable("bell", err)
	}
	return nil
}

// hangUp ends the session of the lock, and with it the lock.
func (b *Bell) hangUp() {
	if b.conn != nil {
		_ = b.conn.Raw(func(any) error { return driver.ErrBadConn }) // the pool closes such a connection
		_ = b.conn.Close()
		b.conn, b.holds = nil, false
	}
}

// prove answers nil once a ring of our own has come through.
func (b *Bell) prove(ctx context.Context) error {
	id, ring, err := b.state()
	if id == "" {
		if err := b.query(ctx, &id, `select $1::regclass::oid::text`, b.table); err != nil {
			return err
		}
		b.mu.Lock()
		b.id = id
		b.mu.Unlock()
	}
	if !ring {
		return err
	}
	var nothing string
	return errors.Join(err, b.query(ctx, &nothing, `select pg_notify($1, $2)::text`, bellChannel, id))
}

func (b *Bell) oid() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.id
}

func (b *Bell) isHeard() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.heard
}

// state answers ErrUnheard, and whether to ring for a proof, until rings come
// through.
func (b *Bell) state() (id string, ring bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.heard {
		return b.id, false, nil
	}
	if ring = time.Since(b.tried) > bellRetry; ring {
		b.tried = time.Now()
	}
	return b.id, ring, ErrUnheard
}

// listen keeps a listening connection until ctx ends.
func (b *Bell) listen(ctx context.Context, dsn string) {
	for ctx.Err() == nil {
		b.listenOnce(ctx, dsn)
		b.mu.Lock()
		b.heard = false
		b.mu.Unlock()
		b.signal()
		select {
		case <-time.After(bellRetry):
		case <-ctx.Done():
		}
	}
}

func (b *Bell) listenOnce(ctx context.Context, dsn string) {
	rings := make(chan *pq.Notification, 64)
	l, err := pq.NewListenerConn(dsn, rings)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	if _, err := l.Listen(bellChannel); err != nil {
		_ = l.Close()
	}
	b.mu.Lock()
	b.tried = time.Time{} // ring at once
	b.mu.Unlock()
	for n := range rings { // it is closed with the connection
		b.mu.Lock()
		ours := n.Extra == b.id
		b.heard = b.heard || ours
		b.mu.Unlock()
		if ours {
			b.signal()
		}
	}
}

func (b *Bell) signal() {
	select {
	case b.rung <- struct{}{}:
	default: // one waits already
	}
}
