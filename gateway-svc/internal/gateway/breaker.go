package gateway

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

const (
	breakAfter = 5               // failures in a row
	breakTime  = 1 * time.Second // between two trials of a broken instance
	forgetTime = time.Minute     // after which an instance that is not heard of is forgotten
)

// breakers keep calls away from instances that failed several times in a row,
// for instance by not answering in time. After breakTime calls are let through
// again; the first outcome decides for all.
type breakers struct {
	mu    sync.Mutex
	state map[string]*breaker // by address; only those that failed last
}

type breaker struct {
	circuitbreaker.CircuitBreaker[any]
	last time.Time // of the last failure
}

func newBreakers() *breakers { return &breakers{state: map[string]*breaker{}} }

func newBreaker() *breaker {
	return &breaker{CircuitBreaker: circuitbreaker.NewBuilder[any]().WithFailureThreshold(breakAfter).WithDelay(breakTime).Build()}
}

// open returns the addresses to pass over.
func (b *breakers) open() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for addr, s := range b.state {
		if s.RemainingDelay() > 0 {
			list = append(list, addr)
		}
	}
	return list
}

// note takes the outcome of a call. A failure after the client left, or after
// the time of the whole call was over, tells nothing about the instance.
func (b *breakers) note(ctx context.Context, addr string, err error, status int) {
	if err != nil && ctx.Err() != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && !passing(status) {
		delete(b.state, addr)
		return
	}
	s := b.state[addr]
	if s == nil {
		s = newBreaker()
		b.state[addr] = s
	}
	s.TryAcquirePermit() // an open breaker whose time is over counts this call as its trial
	s.RecordFailure()
	s.last = time.Now()
	maps.DeleteFunc(b.state, func(_ string, s *breaker) bool { return time.Since(s.last) > forgetTime })
}
