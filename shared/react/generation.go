package react

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"pavane/shared/broker"
	"pavane/shared/inbox"
	"pavane/shared/tracing"
)

const (
	// grace is how long a generation that has ended waits for its work. The
	// group waits for it; what comes later is a zombie, which the lock on its
	// partitions makes harmless.
	grace = 2 * time.Second
	// commitEvery is how often Kafka hears how far this member is.
	commitEvery = time.Second
	// rangeChecks is how often in a row the broker must say that an offset is
	// out of range: a new leader may not know the end of its log at once.
	rangeChecks = 5
)

// partition names a partition as a map's key.
type partition struct {
	topic  string
	number int32
}

// generation is the work on the partitions that one generation of the group
// gave to this member. Three goroutines share it: one fetches, one applies, one
// tells Kafka.
type generation struct {
	c     *Consumer
	owned []inbox.Offset // where reading begins
	tell  func(map[string]map[int]int64) error

	settleAt time.Time     // of the goroutine that applies
	spans    tracing.Spans // of the transaction that it runs
	busy     atomic.Int64  // Unix time in ns of the last progress while records are at hand; 0: idle

	mu      sync.Mutex
	next    map[partition]int64 // as stored
	changed bool                // since Kafka was told
}

// generation handles the assigned partitions until ctx ends. It returns in time
// even when a handler does not obey its context; zombies counts what is left.
func (c *Consumer) generation(ctx context.Context, zombies *sync.WaitGroup, assigned map[string][]int32, tell func(map[string]map[int]int64) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := &generation{c: c, tell: tell, next: map[partition]int64{}}
	for topic, numbers := range assigned {
		for _, n := range numbers {
			g.owned = append(g.owned, inbox.Offset{Topic: topic, Partition: n})
		}
	}
	done := make(chan error, 1)
	zombies.Go(func() { done <- g.work(ctx) })
	tick := time.NewTicker(max(c.cfg.Watchdog/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return orLate(done, errors.New("the work of an ended generation goes on; the database keeps it harmless"))
		case <-tick.C:
			if since := g.busy.Load(); since != 0 && time.Since(time.Unix(0, since)) > c.cfg.Watchdog {
				cancel()
				return orLate(done, fmt.Errorf("no progress for %s with records at hand", c.cfg.Watchdog), g.stuck())
			}
		}
	}
}

// orLate waits a moment for the end of the work. Late is what it returns when
// that does not come, and with causes also when it does.
func orLate(done <-chan error, late error, causes ...error) error {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case err := <-done:
		if len(causes) == 0 {
			return err
		}
	case <-timer.C:
	}
	return errors.Join(append([]error{late}, causes...)...)
}

func (g *generation) stuck() error {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	return g.c.status.stuck
}

// work is the generation itself.
func (g *generation) work(ctx context.Context) error {
	g.c.newest.Store(g)
	if err := g.insist(ctx, func() error { return g.begin(ctx) }); err != nil {
		return ended(ctx, err)
	}
	g.report(func(s *status) {
		s.joined, s.halted, s.ended = true, map[string]error{}, nil
		g.c.metrics.halted.Set(0)
	})
	defer g.mine(func() {
		g.c.metrics.lag.Reset()
		g.c.atHand.Store(0)
	})
	fetched := make(chan batch) // unbuffered: the next fetch waits here while one batch is applied
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.fetch(ctx, fetched) })
	group.Go(func() error { return g.applyAll(ctx, fetched) })
	group.Go(func() error { return g.tellAll(ctx) })
	err := ended(ctx, group.Wait())
	return errors.Join(err, g.tellNow(context.WithoutCancel(ctx)))
}

// ended makes the end of the context a quiet one.
func ended(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// begin finds out from where to read.
func (g *generation) begin(ctx context.Context) error {
	ranges, err := g.c.cfg.Source.Offsets(ctx, g.c.cfg.Topics...)
	if err != nil {
		return unavailable(err)
	}
	for _, topic := range g.c.cfg.Topics {
		if n := len(ranges[topic]); n != g.c.cfg.Partitions {
			return fmt.Errorf("topic %s has %d partitions, this build is for %d; keys would change their place", topic, n, g.c.cfg.Partitions)
		}
	}
	for i, o := range g.owned {
		g.owned[i].Next = ranges[o.Topic][o.Partition].First // where nothing is stored yet
	}
	var stored, begun []inbox.Offset
	err = g.c.cfg.DB.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
		if stored, begun, err = inbox.Begin(ctx, tx, g.owned); err != nil {
			return err
		}
		return hit(ctx, "inbox.before_begin")
	})
	if err == nil {
		err = hit(ctx, "inbox.after_begin")
	}
	if err != nil {
		return unavailable(err)
	}
	g.tellLate(ctx, begun)
	g.owned = stored
	for _, o := range g.owned {
		g.next[partition{o.Topic, o.Partition}] = o.Next
	}
	return nil
}

// batch is what one fetch brought, and from where it was.
type batch struct {
	broker.Fetched
	at      []broker.Position
	came    time.Time
	applied chan struct{} // closed when it is
}

// readAhead is the number of records from which on the next ones are fetched
// while these are applied. Behind fewer of them it is better to wait: all that
// comes meanwhile is then one batch, and costs one transaction.
const readAhead = 50

// fetch brings batches to the one who applies them.
func (g *generation) fetch(ctx context.Context, out chan<- batch) error {
	at := make([]broker.Position, len(g.owned))
	for i, o := range g.owned {
		at[i] = broker.Position{Topic: o.Topic, Partition: o.Partition, Offset: o.Next}
	}
	outside, faults := 0, 0
	stopped := stopped{g: g}
	for ctx.Err() == nil {
		at = append(at, stopped.back(ctx)...)
		f, err := g.c.cfg.Source.Fetch(ctx, at, g.c.cfg.MaxWait, g.c.cfg.MaxBytes)
		if !slices.Equal(f.Next, at) && len(f.Next) == len(at) {
			if err := g.deliver(ctx, out, batch{f, at, time.Now(), make(chan struct{})}); err != nil {
				return err
			}
			at = f.Next
		}
		if err == nil {
			outside, faults = 0, 0
			continue
		}
		if faults++; faults == 1 && ctx.Err() == nil {
			g.c.cfg.Logger.WarnContext(ctx, "records cannot be fetched, trying again", slog.Any("error", err))
		}
		if outside++; !errors.Is(err, broker.ErrOffsetRange) {
			outside = 0
		}
		if outside >= rangeChecks {
			at, outside = stopped.halt(ctx, at), 0
		}
		if err := pause(ctx, g.c.delay(min(faults, rangeChecks))); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// deliver hands a batch over, and returns when the next may be fetched.
func (g *generation) deliver(ctx context.Context, out chan<- batch, b batch) error {
	select {
	case out <- b:
	case <-ctx.Done():
		return ctx.Err()
	}
	if len(b.Records) >= readAhead {
		return nil
	}
	select {
	case <-b.applied:
		return pause(ctx, g.c.cfg.Pace-time.Since(b.came))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// applyAll applies what is fetched, and parked records when they are due.
func (g *generation) applyAll(ctx context.Context, in <-chan batch) error {
	if len(g.owned) == 0 {
		g.mine(func() { g.c.metrics.parkedBy(nil) }) // others look for them now
		<-ctx.Done()
		return ctx.Err()
	}
	for {
		if !time.Now().Before(g.settleAt) {
			g.progress(true)
			if _, err := g.settle(ctx); err != nil {
				return err
			}
			g.progress(false)
		}
		timer := time.NewTimer(time.Until(g.settleAt))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
			continue
		case b := <-in:
			timer.Stop()
			g.progress(true)
			g.mine(func() { g.c.atHand.Store(oldest(b.Records)) })
			for _, u := range g.c.cut(b.Fetched, b.at) {
				if err := g.apply(ctx, u); err != nil {
					return err
				}
			}
			close(b.applied)
			g.progress(false)
			g.mine(func() {
				g.c.atHand.Store(0)
				g.lag(b)
			})
		}
	}
}

// oldest is the least time of records, in ms since 1970; 0 for none.
func oldest(records []broker.Record) (least int64) {
	for _, r := range records {
		if at := r.Time.UnixMilli(); least == 0 || at < least {
			least = at
		}
	}
	return least
}

func (g *generation) progress(busy bool) {
	if busy {
		g.busy.Store(time.Now().UnixNano())
		return
	}
	g.busy.Store(0)
}

// mine changes what tells of the generation at work. One that ends late leaves
// the next one's alone.
func (g *generation) mine(change func()) {
	if g.c.newest.Load() == g {
		change()
	}
}

func (g *generation) report(change func(s *status)) {
	g.mine(func() { g.c.report(change) })
}

func (g *generation) lag(b batch) {
	for i, end := range b.End {
		if end >= 0 {
			g.c.metrics.lag.WithLabelValues(b.Next[i].Topic, strconv.Itoa(int(b.Next[i].Partition))).Set(float64(max(end-b.Next[i].Offset, 0)))
		}
	}
}

// committed takes note of a transaction that stands.
func (g *generation) committed(ends []inbox.Offset, p *pass) {
	m := g.c.metrics
	m.applied.Add(float64(p.applied))
	m.duplicates.Add(float64(p.duplicates))
	m.gaps.Add(float64(p.gaps))
	m.lateStarts.Add(float64(p.lateStarts))
	for _, row := range p.parked {
		if row.Cause == inbox.Undecodable || row.Cause == inbox.Foreign {
			m.refused.Inc()
		}
		if row.Cause == inbox.Foreign || row.Cause == inbox.Missing || row.Cause == inbox.Undecodable || row.Cause == inbox.UnknownVersion {
			g.c.cfg.Logger.Error("record is parked", slog.String("cause", string(row.Cause)), slog.String("source", row.Source),
				slog.String("key", row.Key), slog.Int64("sequence", row.Sequence), slog.String("reason", row.Reason),
				slog.String("record", broker.Position{Topic: row.Topic, Partition: row.Partition, Offset: row.Offset}.String()))
		}
	}
	if p.settle { // a record that only waits does not make another one due
		g.settleAt = time.Time{}
	}
	g.progress(true)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range ends {
		at := partition{o.Topic, o.Partition}
		g.next[at], g.changed = max(g.next[at], o.Next), true
	}
}

func (g *generation) stored(at partition) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.next[at]
}

// tellAll tells Kafka now and then how far this member is, for tools that show
// lag. Nothing reads it back.
func (g *generation) tellAll(ctx context.Context) error {
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := g.tellNow(ctx); err != nil {
				return err
			}
		}
	}
}

// tellNow returns only the error of a failpoint: the offsets are a hint.
func (g *generation) tellNow(ctx context.Context) error {
	g.mu.Lock()
	if !g.changed {
		g.mu.Unlock()
		return nil
	}
	offsets := map[string]map[int]int64{}
	for at, next := range g.next {
		if offsets[at.topic] == nil {
			offsets[at.topic] = map[int]int64{}
		}
		offsets[at.topic][int(at.number)] = next
	}
	g.changed = false
	g.mu.Unlock()
	if err := hit(ctx, "inbox.before_offset_commit"); err != nil {
		return err
	}
	if err := g.tell(offsets); err != nil {
		g.c.cfg.Logger.DebugContext(ctx, "offsets were not told to kafka; they are told again", slog.Any("error", err))
		g.mu.Lock()
		g.changed = true
		g.mu.Unlock()
	}
	return hit(ctx, "inbox.after_offset_commit")
}
