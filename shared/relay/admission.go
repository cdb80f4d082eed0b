package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/postgres"
)

// AdmissionConfig says how much may wait before new work is refused. DB is
// required; no limit may be below 0.
type AdmissionConfig struct {
	DB      *postgres.DB
	Rows    int64                 // waiting rows from which on; 0: any number
	Age     time.Duration         // of the oldest waiting row, from which on; 0: any
	Every   time.Duration         // between two looks; 0: 500 ms
	Metrics prometheus.Registerer // nil: none
}

// Admission tells whether a service should take new work, by what waits in its
// outbox to be published. A look costs the same whatever waits, and asking costs
// nothing: it is answered from the last look. So the limit is passed by what
// comes between two looks. Only new work should ask; what finishes work that was
// accepted must go on, or nothing ever ends.
type Admission struct {
	cfg     AdmissionConfig
	refusal atomic.Pointer[Busy] // nil: admitted
	refused prometheus.Counter
}

// Busy says why new work is refused.
type Busy struct {
	What string        // what waits, and the limit
	Wait time.Duration // after which a client should ask again
}

// Error says it to a client.
func (b *Busy) Error() string {
	return b.What + "; nothing was accepted, send it again later"
}

// RetryAfter tells a client when.
func (b *Busy) RetryAfter() time.Duration { return b.Wait }

// Busy marks the error as one that lies in how much there is to do.
func (b *Busy) Busy() string { return b.Error() }

// busyWait is what a client is told to wait. A backlog of the default limit
// takes about as long to publish once Kafka is back.
const busyWait = 5 * time.Second

const (
	// What the sequence has given out since the last row that is in the log, read
	// from two rows: at least as many as wait, but for late rows of transactions
	// that were open when the set before was cut.
	aheadSQL = `select s.last_value - coalesce((
  select case when a.chunk is null then greatest(j.after_id, j.prev_id) else j.upto_id end
  from relay_journal j left join relay_ack a on a.chunk = j.chunk order by j.chunk desc limit 1), 0)
from outbox_id_seq s`
	// manySQL counts the waiting rows up to $5.
	manySQL   = `select count(*) from (` + waiting + ` limit $5) b`
	oldestSQL = `select extract(epoch from clock_timestamp() - f.at)::float8 from (` + firstSQL + `) f (at)`
)

// NewAdmission makes one that admits everything until Run has looked. An error
// says which field of the config is not usable.
func NewAdmission(cfg AdmissionConfig) (*Admission, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	set(&cfg.Every, 500*time.Millisecond)
	a := &Admission{cfg: cfg, refused: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "pavane_admission_refused_total", Help: "Requests for new work refused because too much waits to be published.",
	})}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(a.refused)
	}
	return a, nil
}

func (c *AdmissionConfig) validate() error {
	if c.DB == nil {
		return errors.New("admission: DB is required")
	}
	return cmp.Or(
		notBelow0("admission", "Rows", c.Rows, "any number"),
		notBelow0("admission", "Age", c.Age, "any"),
		notBelow0("admission", "Every", c.Every, "500 ms"),
	)
}

// Admit returns nil, or a *[Busy].
func (a *Admission) Admit() error {
	if b := a.refusal.Load(); b != nil {
		a.refused.Inc()
		return b
	}
	return nil
}

// Run looks now and then until ctx ends. Without the database the last answer
// stands.
func (a *Admission) Run(ctx context.Context) error {
	if a.cfg.Rows == 0 && a.cfg.Age == 0 {
		<-ctx.Done()
		return nil
	}
	for ctx.Err() == nil {
		if busy, err := a.Look(ctx); err == nil {
			a.refusal.Store(busy)
		}
		if sleep(ctx, a.cfg.Every) != nil {
			break
		}
	}
	return nil
}

// Look measures what waits and returns why new work is to be refused, or nil.
// Work is taken again below nine tenths of the limit.
func (a *Admission) Look(ctx context.Context) (*Busy, error) {
	rows, age := a.cfg.Rows, a.cfg.Age
	if a.refusal.Load() != nil {
		rows, age = rows-rows/10, age-age/10
	}
	busy, err := a.tooMany(ctx, rows)
	if busy != nil || err != nil {
		return busy, err
	}
	return a.tooOld(ctx, age)
}

func (a *Admission) tooMany(ctx context.Context, limit int64) (*Busy, error) {
	if limit == 0 {
		return nil, nil
	}
	var ahead int64
	if err := a.cfg.DB.Get(ctx, &ahead, aheadSQL); err != nil || ahead < limit {
		return nil, err
	}
	// Numbers that were rolled back are among them. Only here, where it matters,
	// the rows are counted.
	head, err := loadHead(ctx, a.cfg.DB)
	if err != nil {
		return nil, err
	}
	var rows int64
	if err := a.cfg.DB.Get(ctx, &rows, manySQL, append(head.waitsFrom(), limit)...); err != nil || rows < limit {
		return nil, err
	}
	return &Busy{What: fmt.Sprintf("%d events or more wait to be published, the limit is %d", rows, a.cfg.Rows), Wait: busyWait}, nil
}

func (a *Admission) tooOld(ctx context.Context, limit time.Duration) (*Busy, error) {
	if limit == 0 {
		return nil, nil
	}
	age, err := oldestAge(ctx, a.cfg.DB)
	if err != nil || age < limit {
		return nil, err
	}
	return &Busy{What: fmt.Sprintf("an event waits to be published since %s, the limit is %s", age.Round(time.Second), a.cfg.Age), Wait: busyWait}, nil
}

// oldestAge is the age of the first waiting row, to a millisecond: when none waits,
// it is the time that the question takes.
func oldestAge(ctx context.Context, db *postgres.DB) (time.Duration, error) {
	head, err := loadHead(ctx, db)
	if err != nil {
		return 0, err
	}
	var seconds float64
	if err := db.Get(ctx, &seconds, oldestSQL, head.waitsFrom()...); err != nil {
		return 0, err
	}
	return time.Duration(seconds * float64(time.Second)).Truncate(time.Millisecond), nil
}
