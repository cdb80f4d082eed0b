package order

import (
	"context"
	"sync"
	"time"
)

// Another process may decide the order; its commit is noticed by polling.
const (
	pollMin = 25 * time.Millisecond
	pollMax = 100 * time.Millisecond
)

// Await returns the order as soon as it is decided, and else as it is when wait
// is over or the service stops.
func (s *Service) Await(ctx context.Context, id string, wait time.Duration) (Order, error) {
	// Waiting begins before the first look, so no commit falls in between.
	woken, leave := s.waiters.join(id)
	defer leave()
	over := time.NewTimer(wait)
	defer over.Stop()
	for poll := pollMin; ; poll = min(2*poll, pollMax) {
		o, err := s.Get(ctx, id)
		if err != nil || o.State != Placed {
			return o, err
		}
		select {
		case <-woken:
		case <-time.After(poll):
		case <-over.C:
			return s.Get(ctx, id)
		case <-s.waiters.stopped:
			return o, nil
		case <-ctx.Done():
			return Order{}, ctx.Err()
		}
	}
}

// waiters are those who wait in this process for an order to be decided.
type waiters struct {
	mu       sync.Mutex
	byOrder  map[string]map[chan struct{}]struct{}
	stopped  chan struct{}
	stopOnce sync.Once
}

func newWaiters() *waiters {
	return &waiters{byOrder: map[string]map[chan struct{}]struct{}{}, stopped: make(chan struct{})}
}

func (w *waiters) join(id string) (woken <-chan struct{}, leave func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byOrder[id] == nil {
		w.byOrder[id] = map[chan struct{}]struct{}{}
	}
	w.byOrder[id][c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.byOrder[id], c); len(w.byOrder[id]) == 0 {
			delete(w.byOrder, id)
		}
	}
}

func (w *waiters) wake(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.byOrder[id] {
		select {
		case c <- struct{}{}:
		default: // woken already
		}
	}
}

func (w *waiters) stop() { w.stopOnce.Do(func() { close(w.stopped) }) }
