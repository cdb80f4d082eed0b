package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"time"
)

// longPoll is a fetch from one of several leaders. When another leader has
// records first, it goes on by itself and the next Fetch that asks the same of
// the same leader takes it over. Otherwise every fetch would leave a
// connection waiting on each quiet leader.
type longPoll struct {
	key   string
	ended chan struct{} // closed when parts and err are set
	at    time.Time     // when it ended
	parts []fetchedPartition
	err   error
}

// keptFor is how long the answer of a long poll waits for somebody to ask.
const keptFor = 5 * time.Second

func (l *longPoll) done() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// fetchAll carries out the plans and returns when one of them has records or a
// fault, or all are through.
func (c *Client) fetchAll(ctx context.Context, plans []fetchPlan, maxWait time.Duration, maxBytes int) ([]fetchedPartition, error) {
	if len(plans) == 0 {
		return nil, nil
	}
	if len(plans) == 1 {
		return c.fetchFrom(ctx, plans[0], maxWait, maxBytes)
	}
	news := make(chan *longPoll, len(plans))
	polls := make([]*longPoll, len(plans))
	stop := make(chan struct{})
	defer close(stop)
	for i, plan := range plans {
		polls[i] = c.poll(plan, maxWait, maxBytes)
		go func(l *longPoll) {
			select {
			case <-l.ended:
				news <- l
			case <-stop:
			}
		}(polls[i])
	}
	for range polls {
		select {
		case l := <-news:
			if l.err == nil && !l.found() {
				continue
			}
		case <-ctx.Done():
		}
		break
	}
	return c.collect(ctx, polls)
}

// found reports whether there is something to tell the caller.
func (l *longPoll) found() bool {
	for _, p := range l.parts {
		if p.code != 0 || len(p.records) > 0 {
			return true
		}
	}
	return false
}

// collect takes what has ended and leaves the rest for the next fetch.
func (c *Client) collect(ctx context.Context, polls []*longPoll) ([]fetchedPartition, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var parts []fetchedPartition
	var errs []error
	for _, l := range polls {
		if l.done() {
			parts = append(parts, l.parts...)
			errs = append(errs, l.err)
		} else if c.ctx.Err() == nil {
			c.pending[l.key] = l
		}
	}
	if ctx.Err() != nil {
		errs = append(errs, unavailable("fetch", ctx.Err()))
	}
	return parts, errors.Join(errs...)
}

// poll takes over a long poll that asks the same, or begins one. It lives with
// the client, not with the caller, and ends after maxWait.
func (c *Client) poll(plan fetchPlan, maxWait time.Duration, maxBytes int) *longPoll {
	key := binary.AppendVarint(nil, int64(plan.leader))
	key = binary.AppendVarint(key, int64(maxBytes))
	for _, p := range plan.positions {
		key = binary.AppendVarint(append(append(key, p.Topic...), 0), int64(p.Partition))
		key = binary.AppendVarint(key, p.Offset)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, l := range c.pending {
		if l.done() && time.Since(l.at) > keptFor {
			delete(c.pending, k)
		}
	}
	if l, ok := c.pending[string(key)]; ok {
		delete(c.pending, string(key))
		return l
	}
	l := &longPoll{key: string(key), ended: make(chan struct{})}
	go func() {
		l.parts, l.err = c.fetchFrom(c.ctx, plan, maxWait, maxBytes)
		l.at = time.Now()
		close(l.ended)
	}()
	return l
}
