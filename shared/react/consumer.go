package react

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/outbox"
	"pavane/shared/postgres"
	"pavane/shared/tracing"
)

// Source is where records come from; *broker.Client is one.
type Source interface {
	// Group calls fn for every generation, with a context that ends with it,
	// until ctx ends.
	Group(ctx context.Context, config broker.GroupConfig, fn func(ctx context.Context, a *broker.Assignment) error) error
	Fetch(ctx context.Context, positions []broker.Position, maxWait time.Duration, maxBytes int) (broker.Fetched, error)
	Offsets(ctx context.Context, topics ...string) (map[string][]broker.Range, error)
}

// ConsumerConfig says what a service reads and what it does with it. Fields
// without a word on zero are required.
type ConsumerConfig struct {
	Service    string // the consumer group, "order-svc"
	DB         *postgres.DB
	Outbox     *outbox.Outbox
	Source     Source
	Topics     []string
	Partitions int // of each topic; another number at the broker is refused
	Reactions  []Reaction

	// Sources names, by topic, the one source that publishes there. A record of
	// another is parked as foreign: it takes no number and has no effect. A topic
	// that is not in it takes any source.
	Sources map[string]string
	// Kinds tells where each kind goes. A record whose kind goes to another topic
	// is foreign, too; nil: any kind anywhere.
	Kinds event.Topics

	// Serial makes all transactions of the service's reactions wait for each
	// other, over all its instances. It is for services whose keys share rows
	// (stock, accounts): two batches that lock them would only collide.
	Serial bool

	Logger  *slog.Logger          // nil: no log
	Metrics prometheus.Registerer // nil: none
	Tracer  *tracing.Tracer       // of the reactions; nil: no spans

	Session     time.Duration // without a sign of life from this member, until Kafka gives its partitions to another; 0: 6 s
	BatchSize   int           // records in one transaction, at most; 0: 500, or 2,000 when all reactions are of OnBatch
	MaxBytes    int           // of one fetch from one broker; 0: 2 MiB
	MaxWait     time.Duration // of one fetch without records; 0: 500 ms
	Pace        time.Duration // least time between two small transactions: records that come meanwhile share one; 0: 10 ms
	MaxAttempts int           // failed attempts of a handler until its key waits for an operator; 0: 20, about 30 s
	RetryDelay  time.Duration // before the second attempt; doubled each time up to 2 s, half of it at random; 0: 50 ms
	Watchdog    time.Duration // without progress while records are at hand, until the generation is given up; 0: 60 s
}

func (c *ConsumerConfig) setDefaults() {
	c.BatchSize = orDefault(c.BatchSize, batchSize(c.Reactions))
	c.MaxBytes = orDefault(c.MaxBytes, 2<<20)
	c.MaxWait = orDefault(c.MaxWait, 500*time.Millisecond)
	c.Pace = orDefault(c.Pace, 10*time.Millisecond)
	c.MaxAttempts = orDefault(c.MaxAttempts, 20)
	c.RetryDelay = orDefault(c.RetryDelay, 50*time.Millisecond)
	c.Watchdog = orDefault(c.Watchdog, time.Minute)
	c.Logger = orDefault(c.Logger, slog.New(slog.DiscardHandler))
}

// batchSize weighs what a transaction costs beside its records against how long
// it holds its locks: handlers of single events take a round trip or more each.
func batchSize(reactions []Reaction) int {
	if slices.ContainsFunc(reactions, func(r Reaction) bool { return r.Kind != "" && !r.many }) {
		return 500
	}
	return 2000
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

func (c *ConsumerConfig) validate() error {
	switch {
	case c.Service == "" || c.DB == nil || c.Outbox == nil || c.Source == nil:
		return errors.New("consumer: Service, DB, Outbox and Source are required")
	case len(c.Topics) == 0 || c.Partitions < 1:
		return fmt.Errorf("consumer of %s: %d topics, %d partitions; want at least one of each", c.Service, len(c.Topics), c.Partitions)
	case c.BatchSize < 1 || c.MaxBytes < 1 || c.MaxAttempts < 1 || c.MaxWait < 0 || c.Pace < 0 || c.Session < 0 || c.RetryDelay < 0 || c.Watchdog < 0:
		return fmt.Errorf("consumer of %s: a size or duration is below its least value", c.Service)
	}
	return nil
}

// Consumer runs the reactions of a service: each event changes the service's
// database once, in the order of its key, in one transaction with the events
// that tell of the change and with the offset from which reading goes on.
type Consumer struct {
	cfg     ConsumerConfig
	byKind  map[string]Reaction
	kinds   []string        // those of byKind
	byName  map[string]bool // names of kinds without their version
	alone   map[string]bool // topics whose sources publish on no other one that is read
	metrics *meters

	newest atomic.Pointer[generation] // the one whose work began last
	atHand atomic.Int64               // Unix time in ms of the oldest record that is being applied; 0: none

	mu     sync.Mutex
	status status
}

// status is what readiness tells.
type status struct {
	joined bool             // at least once; a rebalance does not make a service unready
	halted map[string]error // partitions that cannot be read on, "topic/partition"
	stuck  error            // what is being retried now
	ended  error            // why the last generation ended before its time
}

// NewConsumer checks the config. It touches neither database nor broker.
func NewConsumer(cfg ConsumerConfig) (*Consumer, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Consumer{cfg: cfg, byKind: map[string]Reaction{}, byName: map[string]bool{}, alone: cfg.alone()}
	c.metrics = newMeters(cfg.Metrics, c.ready, c.lagSeconds)
	for _, r := range cfg.Reactions {
		if r.Kind == "" {
			continue
		}
		name, _, err := event.SplitKind(r.Kind)
		if err != nil {
			return nil, fmt.Errorf("consumer of %s: %w", cfg.Service, err)
		}
		if _, ok := c.byKind[r.Kind]; ok {
			return nil, fmt.Errorf("consumer of %s: two reactions on %s; a service has one", cfg.Service, r.Kind)
		}
		c.byKind[r.Kind], c.byName[name] = r, true
	}
	c.kinds = slices.Sorted(maps.Keys(c.byKind))
	return c, nil
}

// Run takes part in the service's group and handles records until ctx ends;
// then it returns nil. Faults of database and broker are retried for ever.
func (c *Consumer) Run(ctx context.Context) error {
	var zombies sync.WaitGroup
	defer waitFor(&zombies, grace)
	return c.cfg.Source.Group(ctx, broker.GroupConfig{ID: c.cfg.Service, Topics: c.cfg.Topics, Session: c.cfg.Session}, func(ctx context.Context, a *broker.Assignment) error {
		err := c.generation(ctx, &zombies, a.Partitions, a.Commit)
		c.report(func(s *status) { s.ended = err })
		return err
	})
}

// waitFor gives what is left of ended generations a last moment.
func waitFor(zombies *sync.WaitGroup, limit time.Duration) {
	gone := make(chan struct{})
	go func() {
		zombies.Wait()
		close(gone)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-gone:
	case <-timer.C:
	}
}

// Ready returns why the consumer does not consume, or nil. It is cheap.
func (c *Consumer) Ready(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(c.status.halted) > 0:
		first := slices.Sorted(maps.Keys(c.status.halted))[0]
		return fault.Unavailable("%d partitions are stopped: %w", len(c.status.halted), c.status.halted[first])
	case c.status.stuck != nil:
		return fault.Unavailable("consumer retries: %w", c.status.stuck)
	case c.status.ended != nil:
		return fault.Unavailable("consumer begins again: %w", c.status.ended)
	case !c.status.joined:
		return fault.Unavailable("consumer has not joined group %s yet", c.cfg.Service)
	}
	return nil
}

// ready is [Consumer.Ready] as a number.
func (c *Consumer) ready() float64 {
	if c.Ready(context.Background()) != nil {
		return 0
	}
	return 1
}

// lagSeconds is how long ago the oldest record at hand was sent; 0 while none
// is at hand.
func (c *Consumer) lagSeconds() float64 {
	since := c.atHand.Load()
	if since == 0 {
		return 0
	}
	return max(time.Since(time.UnixMilli(since)).Seconds(), 0)
}

func (c *Consumer) report(change func(s *status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.status)
}

// brief keeps the reason of a parked record of a bearable length.
func brief(err error) string {
	const limit = 4000
	s := strings.TrimSpace(err.Error())
	return s[:min(len(s), limit)]
}
