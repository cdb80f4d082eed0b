package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"pavane/cmd/pavane/internal/client"
	"pavane/shared/event"
)

const (
	placePatience = 90 * time.Second // after which an order counts as not placed
	retryPause    = 150 * time.Millisecond
	firstLook     = 60 * time.Millisecond
	lastLook      = time.Second // between looks at an order that takes long
	confirmed     = "confirmed"
)

// ShopLimit is how long after the last order was due all may take to be placed and
// to end, at the default deadline: a fault that is healed late has many of them, some
// of which wait for that.
const ShopLimit = placePatience + 75*time.Second

// Moment counts what happened in one second of the run.
type Moment struct {
	Due    int            `json:"due"`
	Placed int            `json:"placed"`
	Ended  map[string]int `json:"ended,omitempty"` // by outcome
}

// book keeps what became of the orders, by second, and never each order: a run
// may take hours.
type book struct {
	begin time.Time

	mu      sync.Mutex
	moments []Moment
	due     int
	placed  int
	ended   map[string]int
	open    map[int]string // placed and not ended, with their ids
	waits   []*wait        // faults after which no new order was confirmed yet
	slowest time.Duration
	fault   error // the last one of an order that was not placed

	unplaced []string // keys of the orders that were still being placed when the run was given up
}

// wait is for the first order that is placed after a moment and confirmed: for
// that every service of its path must work.
type wait struct {
	since time.Time
	took  *time.Duration
}

func newBook() *book {
	return &book{begin: time.Now(), ended: map[string]int{}, open: map[int]string{}}
}

// at returns the second of a moment; called with the lock held.
func (b *book) at(t time.Time) *Moment {
	i := max(0, int(t.Sub(b.begin)/time.Second))
	for len(b.moments) <= i {
		b.moments = append(b.moments, Moment{Ended: map[string]int{}})
	}
	return &b.moments[i]
}

func (b *book) noteDue() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.due++
	b.at(time.Now()).Due++
}

func (b *book) notePlaced(n int, id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.placed++
	b.open[n] = id
	b.at(time.Now()).Placed++
}

// noteRefused notes an order that was not placed, or not yet when the run was given up.
func (b *book) noteRefused(key string, err error, gaveUp bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = err
	if gaveUp {
		b.unplaced = append(b.unplaced, key)
	}
}

func (b *book) noteEnded(n int, sent time.Time, outcome string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	delete(b.open, n)
	b.ended[outcome]++
	b.at(now).Ended[outcome]++
	b.slowest = max(b.slowest, now.Sub(sent))
	left := b.waits[:0]
	for _, w := range b.waits {
		if sent.Before(w.since) || outcome != confirmed {
			left = append(left, w)
			continue
		}
		*w.took = max(now.Sub(w.since), 1)
	}
	b.waits = left
}

// watch has took set once an order that was placed from now on is confirmed.
func (b *book) watch(took *time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waits = append(b.waits, &wait{time.Now(), took})
}

// underWay counts the orders that are placed and not decided.
func (b *book) underWay() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open)
}

// load places orders on a constant schedule, whatever happens.
type load struct {
	gateway *client.Client
	rate    float64
	seed    uint64
	prefix  string // of the idempotency keys
	book    *book
}

// run places orders until stop ends, and returns when each has ended or ctx has.
func (l load) run(ctx, stop context.Context) {
	var orders sync.WaitGroup
	defer orders.Wait()
	tick := time.NewTicker(time.Duration(float64(time.Second) / l.rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-stop.Done():
			return
		}
		l.book.noteDue()
		orders.Go(func() { l.live(ctx, n) })
	}
}

// live takes order n to its end.
func (l load) live(ctx context.Context, n int) {
	rng := rand.New(rand.NewPCG(l.seed, uint64(n)))
	body, cancelled := fate(n)
	sent, key := time.Now(), fmt.Sprintf("%s-%d", l.prefix, n)
	id, err := l.place(ctx, key, body)
	if err != nil {
		l.book.noteRefused(key, err, ctx.Err() != nil)
		return
	}
	l.book.notePlaced(n, id)
	if cancelled {
		pause(ctx, time.Duration(rng.IntN(200))*time.Millisecond)
		l.gateway.Do(ctx, http.MethodPost, "/v1/orders/"+id+"/cancel", nil) //nolint:errcheck // a customer who is not heard gives up
	}
	for look := firstLook; ; look = min(2*look, lastLook) {
		if o, err := l.gateway.Get(ctx, id); err == nil && client.Decided(o) {
			l.book.noteEnded(n, sent, outcome(o))
			return
		}
		if !pause(ctx, look) {
			return
		}
	}
}

func outcome(o client.Order) string {
	if o.Reason != "" {
		return o.State + " " + o.Reason
	}
	return o.State
}

// place insists, with one key, and returns the last error that is not the end of its
// patience. An order that was cancelled before its answer came through is placed, too.
func (l load) place(ctx context.Context, key string, body []byte) (_ string, last error) {
	ctx, cancel := context.WithTimeout(ctx, placePatience)
	defer cancel()
	for {
		a, err := l.gateway.Do(ctx, http.MethodPost, "/v1/orders", body, "Idempotency-Key", key)
		if err == nil && a.Header.Get("Location") != "" {
			return a.OrderID(), nil
		}
		if err == nil {
			err = errors.New(a.Text())
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if !pause(ctx, retryPause) {
			return "", last
		}
	}
}

// cards are the scripts of the card provider that orders go by in turn; tok_never
// is left to the deadline.
func cards() []string {
	return []string{"tok_refuse", "tok_fail", "tok_fail_after_charge", "tok_lose_answer", "tok_twice", "tok_late", "tok_garbage", "tok_stall", "tok_never"}
}

// fate deals out the paths of the saga: of ten orders one is for what is out of
// stock, one for an empty wallet, two are cancelled soon after. Four are paid by
// card, one of them by a card that makes the provider answer badly. What a fault
// holds up for long, the deadline cancels.
func fate(n int) (body []byte, cancelled bool) {
	skus := []string{"tea-green", "tea-black", "mug-red", "mug-blue", "honey", "biscuits", "tray", "whisk", "tin"}
	item := client.Item{SKU: skus[n%len(skus)], Quantity: 1}
	customer := fmt.Sprintf("cust-%02d", 1+n%19) // the twentieth has an empty wallet
	switch n % 10 {
	case 3:
		item.SKU = "gift-card" // there is none
	case 5:
		customer = "cust-20"
	case 7:
		cancelled = true
	case 9:
		return client.CardBody(customer, "tok_ok", item), true
	case 0, 2:
		return client.CardBody(customer, "tok_ok", item), false
	case 4:
		return client.CardBody(customer, cards()[n/10%len(cards())], item), false
	}
	return client.Body(customer, item), cancelled
}

// newPrefix returns what begins the idempotency keys of a run.
func newPrefix() string { return "chaos-" + event.NewID() }

// pause waits; false: ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Tally is what became of the orders of a while.
type Tally struct {
	Due, Placed int
	Ended       map[string]int // by outcome
	Open        int            // placed and not ended
}

// Shop places orders at a rate, over every path of the saga, until stop is
// called. Stop returns when each has ended, or after limit.
func Shop(ctx context.Context, gateway *client.Client, rate float64) (stop func(limit time.Duration) Tally) {
	placing, enough := context.WithCancel(ctx)
	sagas, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	b := newBook()
	done := make(chan struct{})
	go func() {
		defer close(done)
		load{gateway, rate, 0, newPrefix(), b}.run(sagas, placing)
	}()
	return func(limit time.Duration) Tally {
		enough()
		late := time.AfterFunc(limit, giveUp)
		defer late.Stop()
		<-done
		giveUp()
		return Tally{b.due, b.placed, b.ended, len(b.open)}
	}
}

// String is the tally in words.
func (t Tally) String() string {
	text := fmt.Sprintf("%d of %d placed", t.Placed, t.Due)
	for _, o := range slices.Sorted(maps.Keys(t.Ended)) {
		text += fmt.Sprintf(", %d %s", t.Ended[o], o)
	}
	if t.Open > 0 {
		text += fmt.Sprintf(", %d NOT ENDED", t.Open)
	}
	return text
}
