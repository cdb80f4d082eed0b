package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"pavane/cmd/pavane/internal/client"
	"pavane/cmd/pavane/internal/fault"
	"pavane/internal/audit"
	"pavane/internal/proc"
)

const (
	// EndLimit is how long after the last fault every saga may take to end, with
	// all its effects.
	EndLimit = 60 * time.Second
	// beginLimit and healLimit bound one fault's coming and going. On a machine that
	// is full, Kafka needs more than a minute to start.
	beginLimit = 30 * time.Second
	healLimit  = 3 * time.Minute
	// insideWait is how long a fault waits for an order to be under way, so that it
	// strikes inside of a saga: longer than any fault keeps orders from being placed.
	insideWait = 25 * time.Second
	insideLook = 2 * time.Millisecond
	tellEvery  = 5 * time.Second
)

// Config says what a run is. All but End, Progress and Healed is required.
type Config struct {
	Seed    uint64
	For     time.Duration
	Every   time.Duration // between two faults, on average
	Rate    float64       // orders per second
	Kinds   []fault.Kind
	Driver  fault.Driver
	Gateway *client.Client
	Audit   audit.Source

	// End is how long after the last fault every saga may take to end; 0 means
	// EndLimit. It must be longer than the orders' deadline.
	End time.Duration

	Progress func(format string, args ...any)
	Healed   func(broken error) // told when all is healed, and what could not be; nil: nobody
}

// MaxRate is how many orders per second are placed at most.
const MaxRate = 1000

// Check says what is wrong with the length of a run, the time between two of its
// faults, or its orders per second.
func Check(length, every time.Duration, rate float64) error {
	paced := rate > 0 && rate <= MaxRate // false for what is no number, too
	if length < 10*time.Second || length > 24*time.Hour || every < 200*time.Millisecond || !paced {
		return errors.New("chaos: want --for from 10s to 24h, --every from 200ms on, --rate above 0 and up to 1000")
	}
	return nil
}

// run is a run under way.
type run struct {
	Config
	book     *book
	counters *counters
	mu       sync.Mutex
	struck   []*Struck
	taken    map[string]*sync.Mutex // resources that are broken; a server may come back later than planned
	lastHeal time.Time
}

// Run runs faults and orders, heals everything, waits for all sagas to end, and
// audits. When ctx ends it heals, and judges what there is.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Progress == nil {
		cfg.Progress = func(string, ...any) {}
	}
	if cfg.End == 0 {
		cfg.End = EndLimit
	}
	r := &run{Config: cfg, book: newBook(), counters: newCounters(cfg.Gateway), taken: map[string]*sync.Mutex{}}
	plan := Possible(Plan(cfg.Seed, cfg.For, cfg.Every, cfg.Kinds), cfg.Kinds, func(kind string) error { return cfg.Driver.Missing(ctx, kind) }, r.Progress)
	r.Progress("seed %d: %d faults in %s, %g orders/s", cfg.Seed, len(plan), cfg.For, cfg.Rate)
	stop, cancel := context.WithTimeout(ctx, cfg.For)
	defer cancel()
	sagas, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	var orders, side sync.WaitGroup
	l := load{cfg.Gateway, cfg.Rate, cfg.Seed, newPrefix(), r.book}
	orders.Go(func() { l.run(sagas, stop) })
	side.Go(func() { r.counters.follow(sagas) })
	side.Go(func() { r.tell(sagas) })
	r.deal(stop, plan)
	<-stop.Done()
	r.lastHeal = time.Now()
	health, broken := "everything is healed", r.broken()
	if broken != nil {
		health = broken.Error()
	}
	if r.Healed != nil {
		r.Healed(broken)
	}
	r.Progress("%s; %d orders are under way", health, r.book.underWay())
	ended := r.awaitEnd(&orders)
	took := time.Since(r.lastHeal)
	giveUp()
	orders.Wait()
	side.Wait()
	return r.judge(ctx, plan, ended, took)
}

// broken tells what was broken and does not work again.
func (r *run) broken() error {
	var broken []string
	for _, s := range r.struck {
		if s.broken {
			broken = append(broken, fmt.Sprint(s.Spec))
		}
	}
	if len(broken) == 0 {
		return nil
	}
	return errors.New("COULD NOT BE HEALED: " + strings.Join(broken, ", "))
}

// deal causes the faults of a plan, each at its time, and returns when all are healed.
func (r *run) deal(ctx context.Context, plan []Planned) {
	var faults sync.WaitGroup
	defer faults.Wait()
	for _, p := range plan {
		if !pause(ctx, p.At-time.Since(r.book.begin)) {
			return
		}
		s, resource := r.take(p)
		faults.Go(func() {
			resource.Lock()
			defer resource.Unlock()
			r.strike(ctx, s)
		})
	}
}

// take notes that a fault is due, and returns what guards its resource.
func (r *run) take(p Planned) (*Struck, *sync.Mutex) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &Struck{Planned: p}
	r.struck = append(r.struck, s)
	if r.taken[p.Resource()] == nil {
		r.taken[p.Resource()] = &sync.Mutex{}
	}
	return s, r.taken[p.Resource()]
}

// strike causes one fault inside of a saga and heals it after its time, or when
// ctx ends.
func (r *run) strike(ctx context.Context, s *Struck) {
	f, err := fault.New(s.Spec, r.Driver)
	if err != nil {
		s.Error = err.Error()
		return
	}
	for limit := time.Now().Add(insideWait); time.Now().Before(limit); pause(ctx, insideLook) {
		if s.Inside = r.book.underWay(); s.Inside > 0 || ctx.Err() != nil {
			break
		}
	}
	if ctx.Err() != nil {
		s.Inside, s.Error = 0, "the run ended before it could begin"
		return
	}
	s.Began = time.Since(r.book.begin)
	whole := context.WithoutCancel(ctx) // what was begun is ended
	begun, cancel := context.WithTimeout(whole, beginLimit)
	did, err := f.Begin(begun)
	cancel()
	r.Progress("%s%s; %d orders under way%s", s.Spec, lasting(s.For), s.Inside, problem(did, err))
	if err == nil {
		pause(ctx, s.For)
	}
	healing, cancel := context.WithTimeout(whole, healLimit)
	defer cancel()
	healed, healErr := f.Heal(healing)
	s.Healed = time.Since(r.book.begin)
	s.Did, s.broken = joinNonEmpty(did, healed), healErr != nil && !errors.Is(healErr, fault.ErrMissed)
	if err := errors.Join(err, healErr); err != nil {
		s.Error = err.Error()
	}
	if s.For > 0 || healErr != nil {
		r.Progress("%s: healed%s", s.Spec, problem(healed, healErr))
	}
	r.book.watch(&s.recovery)
}

func lasting(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf(" for %.1f s", d.Seconds())
}

func problem(did string, err error) string {
	switch {
	case err != nil:
		return fmt.Sprintf(": DID NOT HAPPEN: %v", err)
	case did != "":
		return ": " + did
	}
	return ""
}

func joinNonEmpty(a, b string) string {
	if a != "" && b != "" {
		return a + "; " + b
	}
	return a + b
}

// awaitEnd waits until each order has ended; false: the time for it was over.
func (r *run) awaitEnd(orders *sync.WaitGroup) bool {
	done := make(chan struct{})
	go func() { orders.Wait(); close(done) }()
	limit := time.NewTimer(r.End)
	defer limit.Stop()
	select {
	case <-done:
		return true
	case <-limit.C:
		return false
	}
}

// tell prints every few seconds how the orders are doing.
func (r *run) tell(ctx context.Context) {
	for pause(ctx, tellEvery) {
		b := r.book
		b.mu.Lock()
		ended := 0
		for _, n := range b.ended {
			ended += n
		}
		due, placed := b.due, b.placed
		b.mu.Unlock()
		r.Progress("orders: %d due, %d placed, %d ended", due, placed, ended)
	}
}

// judge audits and puts the report together.
func (r *run) judge(ctx context.Context, plan []Planned, ended bool, took time.Duration) (*Report, error) {
	stopped := ctx.Err() != nil
	r.Progress("auditing")
	auditing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*r.End)
	defer cancel()
	// What is left of the time in which everything must have ended. An audit that
	// had to leave out what is young has found something that had not.
	v, err := audit.Run(auditing, r.Audit, max(r.End-took, time.Second))
	if err != nil {
		return nil, err
	}
	rep := &Report{
		Seed: r.Seed, For: r.For, Rate: r.Rate, Began: r.book.begin, Planned: len(plan), End: r.End, Audit: v, AllEnded: ended, LastEnd: took,
		Slowest: r.book.slowest, Due: r.book.due, Placed: r.book.placed, Ended: r.book.ended, Moments: r.book.moments,
		Counters: r.counters.sums(), Stopped: stopped, Unplaced: r.book.unplaced,
	}
	_, rep.Memory = proc.Memory(os.Getpid())
	for _, id := range r.book.open {
		rep.Open = append(rep.Open, id)
	}
	if r.book.fault != nil {
		rep.LastRefusal = r.book.fault.Error()
	}
	for _, s := range r.struck {
		s.Recovery = s.recovery
		rep.Faults = append(rep.Faults, *s)
	}
	slices.SortFunc(rep.Faults, func(a, b Struck) int { return cmp.Compare(a.Began, b.Began) })
	rep.judge()
	return rep, nil
}
