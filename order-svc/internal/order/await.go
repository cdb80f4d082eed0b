package order

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"pavane/shared/postgres"
)

// pollEvery is the pause between two looks for orders that another process has
// decided.
const pollEvery = 25 * time.Millisecond

// Await returns the order of owner as soon as it is decided, and else as it is when wait
// is over or the service stops.
func (s *Service) Await(ctx context.Context, id string, owner Owner, wait time.Duration) (Order, error) {
	// Waiting begins before the first look, so no commit falls in between.
	woken, leave := s.waiters.join(id)
	defer leave()
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		o, err := s.Get(ctx, id, owner)
		if err != nil || o.State != Placed {
			return o, err
		}
		s.waiters.watch(s.wakeDecided)
		select {
		case <-woken:
		case <-over.C:
			return s.Get(ctx, id, owner)
		case <-s.waiters.stopped:
			return o, nil
		case <-ctx.Done():
			return Order{}, ctx.Err()
		}
	}
}

// wakeDecided wakes those whose order was decided. One look serves all who wait,
// however many they are. A look that fails is made up for by the next one.
func (s *Service) wakeDecided(ids []string) {
	ctx, cancel := context.WithTimeout(context.Background(), pollTimeout)
	defer cancel()
	var decided []string
	if err := s.db.Select(ctx, &decided, decidedSQL, postgres.Array(ids)); err != nil {
		s.log.Debug("waiting orders cannot be looked at", "orders", len(ids), "error", err)
		return
	}
	for _, id := range decided {
		s.waiters.wake(id)
	}
}

// pollTimeout bounds one look for decided orders.
const pollTimeout = 5 * time.Second

// waiters are those who wait in this process for an order to be decided.
type waiters struct {
	mu       sync.Mutex
	byOrder  map[string]map[chan struct{}]struct{}
	watched  bool // a goroutine looks for all of them
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

// watch lets look be called with the ids of all waiting orders every now and
// then, until nobody waits.
func (w *waiters) watch(look func(ids []string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watched {
		return
	}
	w.watched = true
	go func() {
		for {
			select {
			case <-time.After(pollEvery):
			case <-w.stopped:
			}
			ids := w.waiting()
			if ids == nil {
				return
			}
			look(ids)
		}
	}()
}

// waiting returns the orders that are waited for. When there are none, or the
// service stops, it returns nil and the watch is over.
func (w *waiters) waiting() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.stopped:
		w.watched = false
		return nil
	default:
	}
	if len(w.byOrder) == 0 {
		w.watched = false
		return nil
	}
	return slices.Collect(maps.Keys(w.byOrder))
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
