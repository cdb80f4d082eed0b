// Package replay publishes retained rows of outboxes again, into a topic of
// their own, for a consumer that comes late. What lies in the outboxes and in
// their own topics stays as it is.
package replay

import (
	"context"
	"errors"
	"math"
	"regexp"
	"slices"
	"time"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

// Kafka is what a replay needs of it; [broker.Client] is it.
type Kafka interface {
	relay.Publisher
	ClusterID(ctx context.Context) (string, error)
	EnsureTopics(ctx context.Context, topics []broker.Topic) error
	CheckTopics(ctx context.Context, topics []broker.Topic) error
}

// Config says what goes where. Outboxes, Kafka, To and Partitions are required.
type Config struct {
	Outboxes []*postgres.DB
	Kafka    Kafka
	To       string   // the topic; made when it is missing
	Sources  []string // topics that belong to a service, refused as To
	// Partitions is the number of partitions of the sources, and so of To: a key
	// keeps its order in one of them. At least 1.
	Partitions        int
	ReplicationFactor int // of To, when it is made, from 1 on; 0: the broker's default

	Since, Until time.Time // rows appended from Since to before Until; zero: no bound
	Key, Topic   string    // only rows of it; empty: all
	Append       bool      // To may hold records already
	Rate         float64   // rows per second, from 0.001 on; 0: as fast as it goes

	Progress func(done, total int64) // called after each batch of rows; nil: nobody is told
}

// Plan is what a replay would do.
type Plan struct {
	Rows int64
	Keys int64
	// Cut is the number of keys whose first event is not among the rows. A
	// consumer with an inbox waits for it.
	Cut int64
	// Reaches is the time from which on rows are retained; zero: all there ever were.
	Reaches time.Time
	// Holds is how many records the topic has now; -1: it is not there yet.
	Holds int64

	snapshots []string
}

// minRate is a row in a quarter of an hour. Far below it no clock could pace it.
const minRate = 0.001

// batchRows is how many rows are read and sent at a time.
const batchRows = 500

// Prepare checks everything and counts, and changes nothing.
func Prepare(ctx context.Context, cfg Config) (Plan, error) {
	if err := cfg.validate(); err != nil {
		return Plan{}, err
	}
	p := Plan{}
	for _, db := range cfg.Outboxes {
		e, err := relay.Retained(ctx, db, cfg.selection(""))
		if err != nil {
			return Plan{}, err
		}
		p.Rows, p.Keys, p.Cut = p.Rows+e.Rows, p.Keys+e.Keys, p.Cut+e.Cut
		p.snapshots = append(p.snapshots, e.Snapshot)
		if e.From.After(p.Reaches) {
			p.Reaches = e.From
		}
	}
	if !cfg.Since.IsZero() && cfg.Since.Before(p.Reaches) {
		return p, fault.Invalid("rows from before %s are gone, %s is asked for: choose a later time", stamp(p.Reaches), stamp(cfg.Since))
	}
	return p, cfg.target(ctx, &p)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// topicForm is what Kafka takes for the name of a topic.
var topicForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

func (c *Config) validate() error {
	switch {
	case len(c.Outboxes) == 0 || c.Kafka == nil || c.Partitions < 1:
		return fault.Invalid("a replay needs outboxes (%d), Kafka and a number of partitions (%d)", len(c.Outboxes), c.Partitions)
	case !topicForm.MatchString(c.To):
		return fault.Invalid("topic %q: a name has 1 to 249 letters, digits, dots, dashes or underlines", c.To)
	case slices.Contains(c.Sources, c.To):
		return fault.Invalid("topic %s belongs to a service, whose consumers would get everything again: choose another one", c.To)
	case c.Topic != "" && len(c.Sources) > 0 && !slices.Contains(c.Sources, c.Topic):
		return fault.Invalid("topic %q: nobody publishes there; choose one of %v", c.Topic, c.Sources)
	case !c.Since.IsZero() && !c.Until.IsZero() && !c.Since.Before(c.Until):
		return fault.Invalid("since %s is not before until %s", stamp(c.Since), stamp(c.Until))
	case c.ReplicationFactor < 0:
		return fault.Invalid("replication factor %d: choose copies from 1 on, or 0 for the broker's default", c.ReplicationFactor)
	case c.Rate != 0 && !(c.Rate >= minRate) || math.IsInf(c.Rate, 1): // what is no number is refused, too
		return fault.Invalid("rate %g: choose rows per second from %g on, or 0 for as fast as it goes", c.Rate, minRate)
	}
	return nil
}

// target looks what there is of the topic.
func (c *Config) target(ctx context.Context, p *Plan) error {
	if _, err := c.Kafka.ClusterID(ctx); err != nil {
		return err
	}
	if err := c.alike(ctx); err != nil {
		return err
	}
	p.Holds = -1
	ranges, err := c.Kafka.Offsets(ctx, c.To)
	if errors.Is(err, broker.ErrUnavailable) {
		return nil // the cluster answers, so it is the topic that is missing
	}
	if err != nil {
		return err
	}
	if err := c.Kafka.CheckTopics(ctx, []broker.Topic{c.topic()}); err != nil {
		return fault.Invalid("%w", err)
	}
	p.Holds = 0
	for _, r := range ranges[c.To] {
		p.Holds += r.End - r.First
	}
	if p.Holds > 0 && !c.Append {
		return fault.Invalid("topic %s holds %d records, perhaps of a replay that was broken off: delete the topic and begin anew, or append; "+
			"consumers with an inbox drop what they meet again", c.To, p.Holds)
	}
	return nil
}

// alike holds that the sources have as many partitions as To gets. One that is
// not there has nothing to compare.
func (c *Config) alike(ctx context.Context) error {
	for _, source := range c.Sources {
		err := c.Kafka.CheckTopics(ctx, []broker.Topic{{Name: source, Partitions: c.Partitions}})
		if err != nil && !errors.Is(err, broker.ErrUnavailable) {
			return fault.Invalid("a replay keeps its sources' number of partitions: %w", err)
		}
	}
	return nil
}

func (c *Config) topic() broker.Topic {
	return broker.Topic{Name: c.To, Partitions: c.Partitions, ReplicationFactor: c.ReplicationFactor}
}

func (c *Config) selection(snapshot string) relay.Selection {
	return relay.Selection{Since: c.Since, Until: c.Until, Key: c.Key, Topic: c.Topic, Snapshot: snapshot}
}

// Run prepares and publishes, and returns how many records that were. What was
// sent before an error stays in the topic. While Kafka is away it waits. Rows that
// were counted and go while it runs, because their day's partition is dropped or
// their key is parked, end it with an error.
func Run(ctx context.Context, cfg Config) (int64, error) {
	p, err := Prepare(ctx, cfg)
	if err != nil {
		return 0, err
	}
	if err := cfg.Kafka.EnsureTopics(ctx, []broker.Topic{cfg.topic()}); err != nil {
		return 0, err
	}
	if p.Holds < 0 { // it may have been there, and without a leader at that moment
		if err := cfg.target(ctx, &p); err != nil {
			return 0, err
		}
		if p.Holds < 0 {
			return 0, fault.Unavailable("topic %s does not answer now, so nobody knows what it holds: try again", cfg.To)
		}
	}
	producer, err := cfg.Kafka.InitProducer(ctx)
	if err != nil {
		return 0, err
	}
	s := sender{cfg: cfg, plan: p, producer: producer, next: make([]int32, cfg.Partitions)}
	for i, db := range cfg.Outboxes {
		if err := s.outbox(ctx, db, cfg.selection(p.snapshots[i])); err != nil {
			return s.done, err
		}
	}
	if s.done < p.Rows {
		return s.done, fault.Conflict("%d of %d rows are in topic %s; the others went meanwhile, with their day's partition or because their key was parked, "+
			"and a consumer would wait for them: delete the topic and begin anew", s.done, p.Rows, cfg.To)
	}
	return s.done, nil
}

// sender publishes as one idempotent producer: what is sent again is recognised.
type sender struct {
	cfg      Config
	plan     Plan
	producer broker.Producer
	next     []int32 // sequence number of the next record, by partition
	done     int64
}

func (s *sender) outbox(ctx context.Context, db *postgres.DB, sel relay.Selection) error {
	for after := int64(0); ; {
		begin := time.Now()
		rows, err := relay.ReadAgain(ctx, db, sel, after, s.size())
		if err != nil || len(rows) == 0 {
			return err
		}
		if err := s.send(ctx, rows); err != nil {
			return err
		}
		after, s.done = rows[len(rows)-1].ID, s.done+int64(len(rows))
		if s.cfg.Progress != nil {
			s.cfg.Progress(s.done, s.plan.Rows)
		}
		if err := s.pace(ctx, len(rows), begin); err != nil {
			return err
		}
	}
}

// size keeps the steps of a slow replay short.
func (s *sender) size() int {
	if s.cfg.Rate == 0 {
		return batchRows
	}
	return min(max(int(s.cfg.Rate/4), 1), batchRows)
}

func (s *sender) pace(ctx context.Context, rows int, begin time.Time) error {
	if s.cfg.Rate == 0 {
		return ctx.Err()
	}
	return sleep(ctx, time.Duration(float64(rows)/s.cfg.Rate*float64(time.Second))-time.Since(begin))
}

// maxBytes keeps a batch below Kafka's default message.max.bytes; a single row
// may exceed it.
const maxBytes = 900 << 10

// send publishes rows, a batch per partition at a time.
func (s *sender) send(ctx context.Context, rows []relay.Row) error {
	batches := make([]*broker.Batch, s.cfg.Partitions)
	now := time.Now().UnixMilli()
	for _, r := range rows {
		at := broker.Partition([]byte(r.Key), s.cfg.Partitions)
		if b := batches[at]; b != nil && b.Size()+len(r.Payload) > maxBytes {
			if err := s.produce(ctx, batches); err != nil {
				return err
			}
			clear(batches)
		}
		if batches[at] == nil {
			batches[at] = new(broker.Batch)
			batches[at].Reset(s.cfg.To, at)
		}
		batches[at].Add(now, []byte(r.Key), r.Payload, event.AppendHeaders(nil, r.Headers))
	}
	return s.produce(ctx, batches)
}

// maxPause bounds the pause between two tries while Kafka is away.
const maxPause = time.Second

// produce sends batches until all of them are in the log.
func (s *sender) produce(ctx context.Context, batches []*broker.Batch) error {
	todo := slices.DeleteFunc(slices.Clone(batches), func(b *broker.Batch) bool { return b == nil })
	for _, b := range todo {
		_, at := b.Topic()
		b.Seal(s.producer, s.next[at])
		s.next[at] = broker.NextSequence(s.next[at], b.Len())
	}
	for pause := 10 * time.Millisecond; len(todo) > 0; pause = min(2*pause, maxPause) {
		var again []*broker.Batch
		for i, res := range s.cfg.Kafka.Produce(ctx, todo) {
			switch {
			case res.Err == nil:
			case errors.Is(res.Err, broker.ErrUnavailable):
				again = append(again, todo[i])
			default:
				return res.Err
			}
		}
		if todo = again; len(todo) > 0 {
			if err := sleep(ctx, pause); err != nil {
				return err
			}
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
