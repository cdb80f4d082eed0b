package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/failpoint"
	"pavane/shared/postgres"
)

const (
	// maxWait is how long maintenance waits for a lock. Whoever needs the outbox
	// meanwhile waits behind it, so it is short; what it costs is another try.
	maxWait = 20 * time.Millisecond
	// maintainFrom is when maintenance begins, unless what waited at the start is
	// published before: its connection and its first plans cost as much as the
	// first chunk's.
	maintainFrom = time.Second

	extendSQL = `select outbox_extend()`
	dropSQL   = `select coalesce(outbox_drop($1, $2), '')`
	// Two statements: an acknowledgement whose chunk is gone is found by the next
	// round, too. The chunk of a parked key says what is held back for it, so it
	// stays, whatever the clock said when it was acknowledged.
	trimSQL = `delete from relay_journal where chunk in (
  select a.chunk from relay_ack a where a.acked_at < $1
    and a.chunk < least((select max(chunk) from relay_journal), (select min(chunk) from relay_parked)) order by a.chunk limit 10000)`
	trimAcksSQL = `delete from relay_ack where chunk < (select min(chunk) from relay_journal)`
	backlogSQL  = `select count(*), coalesce(extract(epoch from clock_timestamp() - min(b.created_at)), 0)::float8, ` + parkedKeys + `
from (` + waiting + `) b`
	// waiting are the rows that wait.
	waiting = `
  select o.created_at from outbox o where o.id > greatest($2::bigint, $4::bigint) and o.xid > $3::xid8` + waits + `
  union all
  select o.created_at from ` + undecided + ` cross join lateral (
    select o.created_at from outbox o where o.xid = x.xid and o.id > $4::bigint` + waits + ` offset 0) o -- offset 0: one walk per transaction
`
	parkedKeys = `(select count(distinct p.key) from relay_parked p)`
	// waits leaves out the rows of parked keys; those before the refused one may
	// still be on their way.
	waits = ` and not exists (select from relay_parked p where p.key = o.key and p.since_id <= o.id)` + notReplaced
	// firstSQL finds when the first waiting row was written, without reading
	// those behind it.
	firstSQL = `select coalesce(min(b.created_at), clock_timestamp()) from (
  (select o.created_at from outbox o where o.id > greatest($2::bigint, $4::bigint) and o.xid > $3::xid8` + waits + ` order by o.id limit 1)
  union all
  (select o.created_at from ` + undecided + ` cross join lateral (
    select o.created_at from outbox o where o.xid = x.xid and o.id > $4::bigint` + waits + ` offset 0) o)
) b`
	// heldSQL finds the oldest row before $5 that waits or is parked: from there
	// on rows are kept, whatever their age and wherever a clock that went wrong
	// has put them. Only partitions from before $5 are looked at.
	heldSQL = `select least($5::timestamptz, (select min(b.created_at) from (
  select o.created_at from outbox o where o.id > greatest($2::bigint, $4::bigint) and o.xid > $3::xid8 and o.created_at < $5` + waits + `
  union all
  select o.created_at from ` + undecided + ` cross join lateral (
    select o.created_at from outbox o where o.xid = x.xid and o.id > $4::bigint and o.created_at < $5` + waits + ` offset 0) o
) b), (select min(o.created_at) from relay_parked p join outbox o on o.id = p.since_id))`
)

// Backlog is what waits in an outbox.
type Backlog struct {
	Rows   int64
	Oldest time.Duration // age of the oldest waiting row; 0 when none waits
	Parked int64         // keys with a row that Kafka refuses; their rows are not among Rows
}

// LoadBacklog counts the committed rows that the journal does not hold as
// published. Its cost follows the backlog.
func LoadBacklog(ctx context.Context, db *postgres.DB) (Backlog, error) {
	head, err := loadHead(ctx, db)
	if err != nil {
		return Backlog{}, err
	}
	var (
		b       Backlog
		seconds float64
	)
	if err := db.SQL().QueryRowContext(ctx, backlogSQL, head.waitsFrom()...).Scan(&b.Rows, &seconds, &b.Parked); err != nil {
		return Backlog{}, fmt.Errorf("outbox backlog: %w", err)
	}
	b.Oldest = time.Duration(seconds * float64(time.Second))
	return b, nil
}

// published returns the place behind which rows wait when c is the head: of those
// that its snapshot does not show, the ones after a row.
func (c *chunk) published() (from position, after int64) {
	switch {
	case !c.acked:
		return c.prev, c.after
	case !c.last:
		return c.prev, c.upto
	}
	return c.target, 0
}

// waitsFrom returns that place as $1 to $4 of the queries for waiting rows.
func (c *chunk) waitsFrom() []any {
	from, after := c.published()
	return []any{from.snapshot, from.id, from.xid, after}
}

// maintain keeps the tables in shape until ctx ends, beside the publishing. It
// is best effort: what fails is tried again the next time.
func (r *Relay) maintain(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.maintainOnce(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Logger.Warn("outbox maintenance failed; it is tried again", "error", err.Error())
		}
		_ = sleep(ctx, r.cfg.Maintain) // it ends early with ctx
	}
}

// maintainOnce makes the coming partitions, trims the journal, and drops the
// partitions that are published and older than the retention, each in a
// transaction of its own.
func (r *Relay) maintainOnce(ctx context.Context) error {
	if err := r.inTurn(ctx, extendSQL); err != nil {
		return err
	}
	keep, published, err := r.keepFrom(ctx)
	if err != nil {
		return err
	}
	if err := r.inTurn(ctx, trimSQL, keep); err != nil {
		return err
	}
	if err := r.inTurn(ctx, trimAcksSQL); err != nil {
		return err
	}
	for {
		var dropped string
		err := r.briefly(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			return tx.QueryRowContext(ctx, dropSQL, keep, published).Scan(&dropped)
		})
		if err != nil || dropped == "" {
			return err
		}
	}
}

func (r *Relay) inTurn(ctx context.Context, query string, args ...any) error {
	return r.briefly(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
}

// briefly runs f in a transaction that waits for no lock for long.
func (r *Relay) briefly(ctx context.Context, f func(context.Context, *sqlx.Tx) error) error {
	err := r.cfg.DB.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf(`set local lock_timeout = %d`, maxWait.Milliseconds())); err != nil {
			return err
		}
		if err := f(ctx, tx); err != nil {
			return err
		}
		return failpoint.Hit(ctx, "relay.before_rotate")
	})
	if err != nil {
		return err
	}
	return failpoint.Hit(ctx, "relay.after_rotate")
}

// keepFrom returns the time from which on rows and journal are kept: all that
// waits, all that is parked, and the retention before. That holds for the rows
// that the snapshot published shows.
func (r *Relay) keepFrom(ctx context.Context) (keep time.Time, published string, err error) {
	head, err := loadHead(ctx, r.cfg.DB)
	if err != nil {
		return keep, "", err
	}
	from := head.waitsFrom()
	if err := r.cfg.DB.SQL().QueryRowContext(ctx, firstSQL, from...).Scan(&keep); err != nil {
		return keep, "", fmt.Errorf("outbox: first waiting row: %w", err)
	}
	if err := r.cfg.DB.SQL().QueryRowContext(ctx, heldSQL, append(from, keep.Add(-r.cfg.Retention))...).Scan(&keep); err != nil {
		return keep, "", fmt.Errorf("outbox: oldest row to keep: %w", err)
	}
	all, _ := head.published()
	return keep, all.snapshot, nil
}

type metrics struct {
	published, healed, epochs prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, db *postgres.DB) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		published: counter("pavane_relay_published_total", "Outbox rows that this relay brought into the log."),
		healed:    counter("pavane_relay_healed_total", "Partitions whose lost records were put back from the outbox."),
		epochs:    counter("pavane_relay_epochs_total", "New producer epochs after Kafka recognised nothing any more."),
	}
	if reg != nil {
		reg.MustRegister(m.published, m.healed, m.epochs, NewBacklogCollector(db))
	}
	return m
}

// NewBacklogCollector shows how much of the outbox of db waits to be published. A
// relay with metrics brings its own; it is for a process whose relay runs
// elsewhere, or nowhere.
func NewBacklogCollector(db *postgres.DB) prometheus.Collector { return backlogCollector{db: db} }

// backlogCollector measures the backlog when somebody asks, never on the side.
type backlogCollector struct{ db *postgres.DB }

func (backlogCollector) descriptions() (rows, oldest, parked *prometheus.Desc) {
	return prometheus.NewDesc("pavane_outbox_backlog", "Committed outbox rows that are not in the log yet.", nil, nil),
		prometheus.NewDesc("pavane_outbox_oldest_seconds", "Age of the oldest row of the backlog.", nil, nil),
		prometheus.NewDesc("pavane_relay_parked_keys", "Keys with a row that Kafka refuses; their rows wait for an operator.", nil, nil)
}

// Describe implements [prometheus.Collector].
func (c backlogCollector) Describe(ch chan<- *prometheus.Desc) {
	rows, oldest, parked := c.descriptions()
	ch <- rows
	ch <- oldest
	ch <- parked
}

// Collect implements [prometheus.Collector]. To count takes the longer the more
// waits, so it comes last. A figure that the database does not give in time is left
// out, and an alert sees it missing.
func (c backlogCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	show := func(what *prometheus.Desc, value float64, err error) {
		if err == nil {
			ch <- prometheus.MustNewConstMetric(what, prometheus.GaugeValue, value)
		}
	}
	rows, oldest, parked := c.descriptions()
	age, err := oldestAge(ctx, c.db)
	show(oldest, age.Seconds(), err)
	var keys int64
	err = c.db.Get(ctx, &keys, `select `+parkedKeys)
	show(parked, float64(keys), err)
	b, err := LoadBacklog(ctx, c.db)
	show(rows, float64(b.Rows), err)
}
