// Package failpoint owns the named points where a run can be made to fail,
// stall or die. Without a set in the context every point is inert.
package failpoint

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Set is what shall happen at which points.
type Set struct {
	mu      sync.Mutex
	actions map[string][]*action
	hits    map[string]int
	kill    func()
	script  *script // nil: the set is fixed
}

// action happens at the at-th hit of its point, once.
type action struct {
	do   func(ctx context.Context) error
	at   int
	kill bool
}

// Parse reads a set from "point=what@hit;…": what is "kill" (SIGKILL to this
// process), "error" (the point returns an error), "exit" (exit code 1) or a
// duration to wait; hit is the number of the hit at which it happens, 1 when
// left out. "relay.after_ack=kill@2" dies at the second acknowledgement. The
// empty string is the inert set.
func Parse(spec string) (*Set, error) {
	s := &Set{actions: map[string][]*action{}, hits: map[string]int{}, kill: killSelf}
	for part := range strings.SplitSeq(spec, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		point, what, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("failpoint %q: want point=what@hit, such as relay.after_ack=kill@2", part)
		}
		a, err := parseAction(point, what)
		if err != nil {
			return nil, err
		}
		s.actions[point] = append(s.actions[point], a)
	}
	return s, nil
}

func parseAction(point, what string) (*action, error) {
	what, hit, counted := strings.Cut(what, "@")
	a := &action{at: 1}
	if counted {
		n, err := strconv.Atoi(hit)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("failpoint %s: hit %q is not a number from 1 on", point, hit)
		}
		a.at = n
	}
	switch what {
	case "kill":
		a.kill = true
	case "error":
		a.do = func(context.Context) error { return fmt.Errorf("failpoint %s: error asked for", point) }
	case "exit":
		a.do = func(context.Context) error { os.Exit(1); return nil }
	default:
		d, err := time.ParseDuration(what)
		if err != nil {
			return nil, fmt.Errorf("failpoint %s: %q is neither kill, error, exit nor a duration", point, what)
		}
		a.do = func(ctx context.Context) error { return wait(ctx, d) }
	}
	return a, nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func killSelf() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill()
	}
	select {} // a killed process returns from nowhere
}

type setKey struct{}

// With returns a context in which the points of s are live.
func With(ctx context.Context, s *Set) context.Context {
	return context.WithValue(ctx, setKey{}, s)
}

// Hit passes the named point. It returns nil unless the context's set says
// otherwise.
func Hit(ctx context.Context, point string) error {
	s, ok := ctx.Value(setKey{}).(*Set)
	if !ok {
		return nil
	}
	return s.hit(ctx, point)
}

func (s *Set) hit(ctx context.Context, point string) error {
	s.mu.Lock()
	if err := s.follow(); err != nil {
		s.mu.Unlock()
		return err
	}
	s.hits[point]++
	n := s.hits[point]
	i := slices.IndexFunc(s.actions[point], func(a *action) bool { return a.at == n })
	var a *action
	if i >= 0 {
		a = s.actions[point][i]
	}
	if a != nil && a.kill {
		defer s.mu.Unlock() // nothing passes a point any more
		if err := s.noteDeath(point, n); err != nil {
			return err
		}
		s.kill()
		return nil
	}
	s.mu.Unlock()
	if a == nil {
		return nil
	}
	return a.do(ctx)
}

// Hits returns how often each point was passed.
func (s *Set) Hits() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	hits := make(map[string]int, len(s.hits))
	for point, n := range s.hits {
		hits[point] = n
	}
	return hits
}
