package faultproxy

import (
	"fmt"
	"slices"
	"time"
)

// Fault is what happens to one request.
type Fault string

const (
	// Drop loses the answer: the server carries the request out, and from then
	// on the connection is silent in both directions, without an end.
	Drop Fault = "drop"
	// Cut closes the connection in place of the answer: the server has carried
	// the request out.
	Cut Fault = "cut"
	// CutBefore closes the connection in place of the request: the server never
	// sees it.
	CutBefore Fault = "cut before"
	// Delay holds the answer back, and with it all later ones of the connection.
	Delay Fault = "delay"
	// Late holds the request back and then hands it to the server, even when
	// the client has given up and gone: it may have tried again elsewhere.
	Late Fault = "late"
)

// Faults lists them all.
func Faults() []Fault { return []Fault{Drop, Cut, CutBefore, Delay, Late} }

// answered tells whether the server has carried the request out when the fault
// strikes.
func (f Fault) answered() bool { return f == Drop || f == Cut || f == Delay }

// Strike is one fault that waits for its request.
type Strike struct {
	kind  string
	fault Fault
	hold  time.Duration

	// Guarded by Proxy.mu: to count down and to close.
	left   int           // requests of its kind up to and with the one it strikes
	back   chan struct{} // closed when it was taken back
	struck chan struct{} // closed when it has struck
}

// Struck is closed when the fault has struck. For Drop and Cut the server's
// whole answer has then reached the proxy, for Delay its beginning, and for
// Late the request was handed over.
func (s *Strike) Struck() <-chan struct{} { return s.struck }

// String names kind and fault.
func (s *Strike) String() string { return fmt.Sprintf("%s of %s", s.fault, s.kind) }

// takenBack is called with the proxy's lock held.
func (s *Strike) takenBack() bool {
	select {
	case <-s.back:
		return true
	default:
		return false
	}
}

// Arm has the k-th request of a kind from now on, over all connections, struck
// by a fault. Hold is how long Delay and Late hold back. Of several strikes due at
// one request the one armed first takes it and the others take the next. A strike whose request ends without an
// answer, because the connection broke for another reason, takes the next one
// of its kind.
func (p *Proxy) Arm(kind string, k int, fault Fault, hold time.Duration) *Strike {
	s := &Strike{kind: kind, fault: fault, hold: hold, left: max(k, 1), back: make(chan struct{}), struck: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = append(p.armed, s)
	return s
}

// Disarm takes a strike back: if it has not struck when Disarm returns it never will,
// and what it holds back passes.
func (p *Proxy) Disarm(s *Strike) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(s)
	if !s.takenBack() {
		close(s.back)
	}
}

// strike has a fault strike as it does; false: it was taken back.
func (p *Proxy) strike(s *Strike, as func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.takenBack() {
		return false
	}
	as()
	close(s.struck)
	return true
}

func (p *Proxy) remove(s *Strike) {
	for i, have := range p.armed {
		if have == s {
			p.armed = append(p.armed[:i:i], p.armed[i+1:]...)
			return
		}
	}
}

// Seen returns how many requests of each kind have come so far.
func (p *Proxy) Seen() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := make(map[string]int, len(p.seen))
	for kind, n := range p.seen {
		seen[kind] = n
	}
	return seen
}

// take counts a request and returns the strike that is due at it, nil for none.
func (p *Proxy) take(kind string) *Strike {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[kind]++
	var due *Strike
	for _, s := range p.armed {
		if s.kind != kind {
			continue
		}
		if s.left > 1 {
			s.left--
		} else if due == nil {
			due = s
		}
	}
	if due != nil {
		p.remove(due)
	}
	return due
}

// again arms strikes whose requests were lost before they could strike.
func (p *Proxy) again(strikes []*Strike) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = append(p.armed, slices.DeleteFunc(strikes, (*Strike).takenBack)...)
}
