// Package relay owns the way from the outbox into Kafka: every committed row
// reaches the log once and in the order of its key, through kill -9 of any
// process, with any number of relays on one outbox.
//
// DESIGN.md beside this file tells why that holds.
package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/broker"
	"pavane/shared/failpoint"
	"pavane/shared/postgres"
	"pavane/shared/tracing"
)

// Publisher is what the relay needs of Kafka; [broker.Client] is one.
type Publisher interface {
	// InitProducer asks for a new producer id.
	InitProducer(ctx context.Context) (broker.Producer, error)
	// Produce sends sealed batches and returns a result for each.
	Produce(ctx context.Context, batches []*broker.Batch) []broker.Result
	// Offsets tells where the logs of topics begin and end.
	Offsets(ctx context.Context, topics ...string) (map[string][]broker.Range, error)
	// Batches reads who wrote the batches from a position on.
	Batches(ctx context.Context, at broker.Position, maxBytes int) (batches []broker.Written, next int64, err error)
}

// Pool returns how to open the pool of a relay on the database at url: four
// connections, a read buffer for many rows, and plans that walk the indexes
// whatever the statistics say. After a burst these are wrong for a while, and
// a scan of the whole table would cost more with each row it holds.
func Pool(url string) postgres.Config {
	return postgres.Config{
		URL: url, MaxConns: 4, ReadBuffer: 256 << 10, Name: "pavane-relay",
		Settings: map[string]string{"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan", "jit": "off"},
	}
}

// Config says which outbox goes where. DB, Publisher and Partitions are
// required; no number and no duration may be below 0.
type Config struct {
	DB        *postgres.DB // opened with [Pool]
	Publisher Publisher
	// Partitions is the number of partitions of every topic, at least 1. It decides where a
	// key goes and never changes for a topic; one that has another number is not
	// published to.
	Partitions int

	// Topics are those that rows go to now; nil: all that the journal names. One
	// from before a renaming stays in the journal and may be gone from Kafka: it is
	// not looked at any more. Rows that still wait for such a topic are not sent,
	// nor is anything behind them, until a relay that names it has sent them.
	Topics []string
	// Wake tells that rows were committed ([outbox.Outbox.Wake]). nil means
	// polling alone.
	Wake <-chan struct{}
	// Bell tells that other processes committed rows; nil means polling alone for
	// those. It is for this relay only.
	Bell *postgres.Bell
	// ChunkRows bounds the rows of a chunk, from 1 on; 0 means 10000.
	ChunkRows int
	// ChunkBytes bounds the bytes of a chunk for one partition, from 1 on; 0 means
	// 900 KiB, below Kafka's default message.max.bytes. One row may exceed it.
	ChunkBytes int
	// Pace is the time between two chunks under load; 0 means 10 ms. Batches
	// grow with it, and the cost of a row falls.
	Pace time.Duration
	// IdlePoll is the longest time between two looks at an idle outbox; 0 means
	// 1 s while the bell is heard, else 100 ms.
	IdlePoll time.Duration
	// Overdue is the age at which a chunk of another relay is sent again by this
	// one; 0 means 100 ms.
	Overdue time.Duration
	// Retention is how long published rows are kept for replay and healing, above
	// 0; 0 means 24 h.
	Retention time.Duration
	// Maintain is the time between two rounds of maintenance: coming partitions
	// are made, old ones dropped, the journal is trimmed; 0 means a minute.
	Maintain time.Duration

	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil means none
	Tracer  *tracing.Tracer       // of what is sent; nil means no spans
}

func (c *Config) setDefaults() error {
	if c.DB == nil || c.Publisher == nil || c.Partitions < 1 {
		return fmt.Errorf("relay: DB, Publisher and Partitions (%d) are required", c.Partitions)
	}
	if err := c.validate(); err != nil {
		return err
	}
	set(&c.ChunkRows, 10000)
	set(&c.ChunkBytes, 900<<10)
	set(&c.Pace, 10*time.Millisecond)
	set(&c.Overdue, 100*time.Millisecond)
	set(&c.Retention, 24*time.Hour)
	set(&c.Maintain, time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// validate refuses what no relay could work with: rows dropped that nobody has
// read, or a statement that fails for ever.
func (c *Config) validate() error {
	return cmp.Or(
		notBelow0("relay", "ChunkRows", c.ChunkRows, "10000"),
		notBelow0("relay", "ChunkBytes", c.ChunkBytes, "900 KiB"),
		notBelow0("relay", "Pace", c.Pace, "10 ms"),
		notBelow0("relay", "IdlePoll", c.IdlePoll, "1 s or 100 ms"),
		notBelow0("relay", "Overdue", c.Overdue, "100 ms"),
		notBelow0("relay", "Retention", c.Retention, "24 h"),
		notBelow0("relay", "Maintain", c.Maintain, "a minute"),
	)
}

func notBelow0[T int | int64 | time.Duration](of, field string, v T, zero string) error {
	if v >= 0 {
		return nil
	}
	return fmt.Errorf("%s: %s=%v is below 0: choose one above it, or 0 for %s", of, field, v, zero)
}

func set[T comparable](v *T, fallback T) {
	var zero T
	if *v == zero {
		*v = fallback
	}
}

// Relay publishes one outbox. Any number of them may run on it, in one process
// or in many.
type Relay struct {
	cfg      Config
	metrics  *metrics
	verified time.Time // when the log was last compared with the journal; zero before the first look
	unheard  int       // comparisons in a row for which Kafka had no answer

	// What this relay knows of the journal's head. nil means: look again.
	head        *chunk
	incarnation string // of the server, when the database was last checked
	compared    bool   // the log with the journal, in that incarnation
	doubted     int64  // number of the head that was open then; 0: none
	newest      int64  // number of the newest head known
	// unacked are the offsets of a chunk that is in the log while the journal
	// does not say so yet; they go there with the next plan.
	unacked map[string]int64
	sent    time.Time // when that chunk was in the log

	reader  *reader
	spare   *reader       // reads ahead while the batches of reader are sent
	ahead   *ahead        // nil: nothing was read ahead
	nothing *nothingFound // nil: the last look found rows

	fit     map[string]bool                // topics whose partitions were counted
	counted chan map[string][]broker.Range // what Kafka tells of them at the start; nil: take no heed
	limit   int                            // rows to read next; grows while there is a backlog
	retries backoff
	sleeper sleeper
}

// New makes a relay, or says which field of the config no relay could work with.
// It does not connect.
func New(cfg Config) (*Relay, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return &Relay{cfg: cfg, metrics: newMetrics(cfg.Metrics, cfg.DB), reader: newReader(cfg), spare: newReader(cfg), limit: firstLimit, fit: map[string]bool{}}, nil
}

// firstLimit keeps the first chunk small, so that the first record is in the
// log at once; the limit grows by growth while chunks come full.
const (
	firstLimit = 250
	growth     = 6
)

// Run publishes until ctx ends. An outage of the database or of Kafka costs
// time only: Run waits and goes on. It returns an error only for a state in
// which going on would break a promise, such as a restored database.
func (r *Relay) Run(ctx context.Context) error {
	defer r.stopAhead()
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel()
	beside.Go(r.countAhead(ctx))
	if err := r.untilDone(ctx, "check", r.check); err != nil {
		return stopped(ctx, err)
	}
	began, begin := context.WithTimeout(ctx, maintainFrom)
	defer begin()
	beside.Go(func() {
		<-began.Done()
		r.maintain(ctx)
	})
	defer r.getUp(context.WithoutCancel(ctx))
	for {
		started := time.Now()
		var rows int
		err := r.untilDone(ctx, "publish", func(ctx context.Context) (err error) {
			if err := r.verify(ctx); err != nil {
				return err
			}
			rows, err = r.cycle(ctx)
			return err
		})
		r.counted = nil // it is of the start alone
		begin()
		if err != nil {
			return stopped(ctx, err)
		}
		if err := r.rest(ctx, rows, started); err != nil {
			return nil
		}
	}
}

// Flush publishes what is committed now and returns, also while others go on
// appending; services call it when they stop.
func (r *Relay) Flush(ctx context.Context) error {
	defer r.stopAhead()
	r.stopAhead()
	// The rest of a set that was looked for before, and one that is looked for now.
	sets := 2
	for {
		rows, err := r.cycle(ctx)
		if err != nil {
			return err
		}
		if rows > 0 && r.head != nil && r.head.last {
			sets--
		}
		if rows > 0 && sets > 0 || r.head == nil {
			continue
		}
		if err := r.ackNow(ctx); err != nil || r.head != nil {
			return err
		}
	}
}

func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// untilDone repeats f after failures that time heals.
func (r *Relay) untilDone(ctx context.Context, what string, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil {
			r.retries.reset()
			return nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrRefuse) {
			return err
		}
		r.head = nil
		if r.retries.first() {
			r.cfg.Logger.Warn("relay waits and tries again", "step", what, "error", err.Error())
		}
		if err := r.retries.wait(ctx); err != nil {
			return err
		}
	}
}

// cycle publishes one chunk, if there is one, and returns its rows.
func (r *Relay) cycle(ctx context.Context) (int, error) {
	if r.head == nil {
		head, err := loadHead(ctx, r.cfg.DB)
		if err != nil {
			return 0, err
		}
		known := r.newest
		r.newest = head.number
		if head.number < known || head.number > 0 && (head.incarnation == "" || head.incarnation != r.incarnation) {
			return 0, r.check(ctx) // before an open head is sent: it may be one of the past
		}
		r.head, r.unacked = head, nil
	}
	if err := r.compareOnce(ctx); err != nil {
		return 0, err
	}
	if !r.head.acked && r.unacked == nil {
		return r.resend(ctx)
	}
	return r.publishNext(ctx)
}

// resend brings the head of the journal into the log: a chunk whose relay died,
// or is slow. While it is young, it is left to the one that planned it. One of the
// future was planned before the clock went back; how old it is, is not known.
func (r *Relay) resend(ctx context.Context) (int, error) {
	if !r.head.mine && r.head.age >= 0 && r.head.age < r.cfg.Overdue {
		wait := min(r.cfg.Overdue-r.head.age, 10*time.Millisecond)
		r.head = nil
		return 0, sleep(ctx, wait)
	}
	if err := r.allCurrent(r.head); err != nil { // before it is read: the number of partitions may be another one, too
		return 0, err
	}
	set, err := r.reader.chunk(ctx, r.head)
	if err != nil {
		return 0, err
	}
	if err := r.head.checkCounts(set); err != nil {
		return 0, err
	}
	return r.publish(ctx, set.batches)
}

// publishNext looks for new rows, plans them as the next chunk and sends it.
func (r *Relay) publishNext(ctx context.Context) (int, error) {
	found, err := r.look(ctx)
	if err != nil {
		r.limit = min(firstLimit, r.cfg.ChunkRows) // it may have taken too long
		return 0, err
	}
	if found.moved(r.head) {
		r.head = nil // another relay planned on; follow it
		return 0, sleep(ctx, time.Millisecond)
	}
	if found.incarnation == "" || found.incarnation != r.incarnation {
		r.head = nil // the server has crashed, or was not checked yet
		return 0, r.check(ctx)
	}
	if err := r.partitionsFit(ctx, found.batches); err != nil {
		return 0, err
	}
	if found.old() { // read ahead of a chunk that took long, or before Kafka answered
		return r.publishNext(ctx)
	}
	r.adaptLimit(found)
	if found.rows == 0 {
		if time.Since(r.sent) < ackWithin {
			return 0, nil
		}
		return 0, r.ackNow(ctx)
	}
	plan, err := r.plan(ctx, found)
	if err != nil {
		return 0, err
	}
	if err := failpoint.Hit(ctx, "relay.before_plan"); err != nil {
		return 0, err
	}
	planned, err := plan.insert(ctx, r.cfg.DB, r.head, r.unacked, time.Since(r.sent))
	if err != nil {
		return 0, err
	}
	if !planned {
		r.head = nil // another relay was faster, or the server crashed
		return 0, sleep(ctx, time.Millisecond)
	}
	r.head, r.unacked, r.newest = plan, nil, plan.number
	if err := failpoint.Hit(ctx, "relay.after_plan"); err != nil {
		return 0, err
	}
	return r.publish(ctx, found.batches)
}

func (r *Relay) adaptLimit(found *rowSet) {
	if found.full {
		r.limit = min(r.limit*growth, r.cfg.ChunkRows)
	} else {
		r.limit = min(firstLimit, r.cfg.ChunkRows)
	}
}

// plan turns rows into the chunk after the head. The first chunk of all asks
// for a producer id.
func (r *Relay) plan(ctx context.Context, found *rowSet) (*chunk, error) {
	producer := r.head.producer
	if r.head.number == 0 {
		var err error
		if producer, err = r.cfg.Publisher.InitProducer(ctx); err != nil {
			return nil, err
		}
	}
	next := r.head.next(found, producer)
	return next, r.allCurrent(next)
}

// publish sends the batches of the head and notes that they are in the log.
func (r *Relay) publish(ctx context.Context, batches []*broker.Batch) (int, error) {
	r.head.mine = true
	if err := failpoint.Hit(ctx, "relay.before_send"); err != nil {
		return 0, err
	}
	r.readAhead(ctx)
	sent := r.reader.sending(ctx, batches)
	offsets, err := r.send(ctx, batches)
	sent(err)
	if errors.Is(err, errOvertaken) {
		r.head = nil
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := failpoint.Hit(ctx, "relay.after_ack"); err != nil {
		return 0, err
	}
	r.unacked, r.head.offsets, r.sent = offsets, offsets, time.Now()
	for _, n := range r.head.counts { // parked rows are not among them
		r.metrics.published.Add(float64(n))
	}
	return r.head.rows, nil
}

// ackNow notes in the journal that the head is in the log, when no further plan
// would carry the note. There is no head any more when the server has begun a new
// life since.
func (r *Relay) ackNow(ctx context.Context) error {
	if r.unacked == nil {
		return nil
	}
	if err := failpoint.Hit(ctx, "relay.before_mark"); err != nil {
		return err
	}
	err := r.head.ack(ctx, r.cfg.DB, r.incarnation, r.unacked, time.Since(r.sent))
	if errors.Is(err, errOvertaken) {
		r.head, r.unacked = nil, nil
		return nil
	}
	if err != nil {
		return err
	}
	r.head.acked, r.unacked = true, nil
	return failpoint.Hit(ctx, "relay.after_mark")
}
