package gateway

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	breakAfter = 5               // failures in a row
	breakTime  = 1 * time.Second // between two trials of a broken instance
	forgetTime = time.Minute     // after which an instance that is not heard of is forgotten
)

// breakers keep calls away from instances that failed several times in a row,
// for instance by not answering in time. Once in breakTime one call is let
// through; when it succeeds, all are.
type breakers struct {
	mu    sync.Mutex
	state map[string]*breaker // by address; only those that failed last
}

type breaker struct {
	failures int
	last     time.Time // of the last failure
	trial    time.Time // when the next call may be let through
}

func newBreakers() *breakers { return &breakers{state: map[string]*breaker{}} }

// open returns the addresses to pass over. An address it leaves out although its
// breaker is open is on trial: for the next breakTime it will be listed again.
func (b *breakers) open() []string {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for addr, s := range b.state {
		switch {
		case s.failures < breakAfter:
		case now.Before(s.trial):
			list = append(list, addr)
		default:
			s.trial = now.Add(breakTime)
		}
	}
	return list
}

// note takes the outcome of a call. One that the client gave up tells nothing
// about the instance.
func (b *breakers) note(ctx context.Context, addr string, err error, status int) {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && !passing(status) {
		delete(b.state, addr)
		return
	}
	s := b.state[addr]
	if s == nil {
		s = &breaker{}
		b.state[addr] = s
	}
	s.failures++
	s.last, s.trial = now, now.Add(breakTime)
	for a, s := range b.state {
		if now.Sub(s.last) > forgetTime {
			delete(b.state, a)
		}
	}
}
