package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"pavane/cmd/pavane/internal/client"
	"pavane/shared/event"
)

const (
	confirmed = "confirmed"

	waitFor = "wait=10"        // how long the gateway may wait for the decision
	timeout = 15 * time.Second // of one request
	// crowd bounds the requests under way. A system that falls so far behind is
	// not measured any more; the orders beyond it count as errors.
	crowd = 4000
)

// shot is one order.
type shot struct {
	due, sent, answered time.Time

	id      string
	outcome string
	err     error
}

// load places orders without waiting for those before: the schedule does not
// slow down when the system does.
type load struct {
	url  string
	gap  time.Duration
	http *http.Client
	next int // number of the next order, over all runs
}

func newLoad(gateway string, rate float64) *load {
	return &load{
		url: gateway + "/v1/orders", gap: time.Duration(float64(time.Second) / rate),
		http: &http.Client{Timeout: timeout, Transport: &http.Transport{MaxIdleConnsPerHost: crowd}},
	}
}

// run places orders for as long as d and returns them when all are answered.
func (l *load) run(ctx context.Context, d time.Duration, progress func(string, ...any)) ([]shot, error) {
	shots := make([]shot, max(int(d/l.gap), 1))
	var all sync.WaitGroup
	var done, wrong atomic.Int64
	begin := time.Now()
	stop := every(tick, func() {
		progress("%3.0f s: %d of %d orders answered, %d errors", time.Since(begin).Seconds(), done.Load(), len(shots), wrong.Load())
	})
	defer stop()
	for i := range shots {
		s := &shots[i]
		s.due = begin.Add(time.Duration(i) * l.gap)
		if err := until(ctx, s.due); err != nil {
			all.Wait()
			return nil, err
		}
		body := l.order()
		if int64(i)-done.Load() >= crowd {
			s.sent, s.err = s.due, fmt.Errorf("not placed: %d orders are under way already", crowd)
			done.Add(1)
			wrong.Add(1)
			continue
		}
		all.Go(func() {
			l.place(ctx, s, body)
			if s.err != nil {
				wrong.Add(1)
			}
			done.Add(1)
		})
	}
	all.Wait()
	return shots, ctx.Err()
}

// order is the next one: customers and goods take turns, and all of them can be
// had and paid for.
func (l *load) order() []byte {
	skus := []string{"tea-green", "tea-black", "mug-red", "mug-blue", "honey", "biscuits", "tray", "whisk", "tin"}
	const wallets = 19 // of cust-01 and so on; the twentieth is empty
	n := l.next
	l.next++
	items := []client.Item{{SKU: skus[n%len(skus)], Quantity: 1 + rand.Int64N(2)}}
	if n%2 == 0 {
		items = append(items, client.Item{SKU: skus[(n+4)%len(skus)], Quantity: 1})
	}
	return client.Body(fmt.Sprintf("cust-%02d", 1+n%wallets), items...)
}

// place sends one order and reads how it ended.
func (l *load) place(ctx context.Context, s *shot, body []byte) {
	s.sent = time.Now()
	defer func() { s.answered = time.Now() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, bytes.NewReader(body))
	if err != nil {
		s.err = err
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", event.NewID())
	req.Header.Set("Prefer", waitFor)
	res, err := l.http.Do(req)
	if err != nil {
		s.err = err
		return
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		s.err = err
		return
	}
	var o client.Order
	switch err := json.Unmarshal(b, &o); {
	case err != nil || o.State == "":
		s.err = fmt.Errorf("%s: %.200s", res.Status, bytes.TrimSpace(b))
	case o.Reason != "":
		s.outcome = o.State + ": " + o.Reason
	default:
		s.outcome, s.id = o.State, path.Base(res.Header.Get("Location"))
	}
}

// until waits for a moment; one that has passed is not waited for.
func until(ctx context.Context, at time.Time) error {
	rest := time.Until(at)
	if rest <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// every calls f again and again until stop is called.
func every(d time.Duration, f func()) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				f()
			}
		}
	})
	return func() { close(done); wg.Wait() }
}
