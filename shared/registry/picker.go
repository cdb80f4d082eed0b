package registry

import (
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"pavane/shared/fault"
)

// ejectFor is how long an instance that could not be connected to is put aside.
// The registry needs longer than that only when the instance is truly dead, and
// then it is put aside again.
const ejectFor = time.Second

// namedFor is how long the instances that a registry named last are still tried
// when it names none. A failure detector that is never wrong cannot be had
// (Chandra and Toueg 1996): on a busy machine it takes the living for dead. Who
// is dead refuses the connection, and the caller is as well off as without.
const namedFor = 10 * time.Second

// Picker chooses instances: the one with the fewest requests in flight, in turn
// among equals, passing over those that just refused a connection.
type Picker struct {
	registry Registry

	mu    sync.Mutex
	next  map[string]int   // by service: whose turn it is
	state map[string]*load // by address; only what is in use or put aside
	named map[string]names // by service
}

// names is what a registry last said when it named anybody.
type names struct {
	instances []Instance
	at        time.Time
}

// load is what this process knows of one address.
type load struct {
	inFlight int
	ejected  time.Time // put aside until then
}

// NewPicker returns a picker over r.
func NewPicker(r Registry) *Picker {
	return &Picker{registry: r, next: map[string]int{}, state: map[string]*load{}, named: map[string]names{}}
}

// Pick chooses an instance of service, none of those at the addresses except, for
// a retry elsewhere. Call done once when the request is over, with its error: one
// that says that the connection could not be made puts the instance aside for a
// second. When all are put aside, the one whose time is over first is taken.
// When the registry names no instance at all, those that it named within the last
// ten seconds still count. Without any the error is [fault.Unavailable].
func (p *Picker) Pick(service string, except ...string) (i Instance, done func(error), err error) {
	instances := p.registry.Lookup(service)
	p.mu.Lock()
	defer p.mu.Unlock()
	candidates := slices.DeleteFunc(p.believed(service, instances), func(i Instance) bool {
		return slices.Contains(except, i.Addr)
	})
	if len(candidates) == 0 {
		return Instance{}, nil, fault.Unavailable("registry: no instance of %s is alive that was not tried: start one or wait until it is seen", service)
	}
	p.next[service]++
	i = p.best(candidates, p.next[service])
	p.of(i.Addr).inFlight++
	var once sync.Once
	return i, func(err error) { once.Do(func() { p.done(i.Addr, err) }) }, nil
}

// believed is what the registry says, or said a moment ago when it names nobody.
// The slice is the caller's.
func (p *Picker) believed(service string, instances []Instance) []Instance {
	now := time.Now()
	if len(instances) > 0 {
		p.named[service] = names{instances: instances, at: now}
	} else if now.Sub(p.named[service].at) > namedFor {
		delete(p.named, service)
	}
	return slices.Clone(p.named[service].instances)
}

// best starts at the candidate whose turn it is, so that equals take turns. The
// turns of each service are its own: callers that ask two services in a fixed
// rhythm would otherwise meet the same instances for ever.
func (p *Picker) best(candidates []Instance, turn int) Instance {
	now := time.Now()
	best := candidates[turn%len(candidates)]
	for n := range candidates {
		c := candidates[(turn+n)%len(candidates)]
		if p.better(c.Addr, best.Addr, now) {
			best = c
		}
	}
	return best
}

func (p *Picker) better(a, b string, now time.Time) bool {
	x, y := p.peek(a), p.peek(b)
	asideX, asideY := now.Before(x.ejected), now.Before(y.ejected)
	switch {
	case asideX != asideY:
		return asideY
	case asideX:
		return x.ejected.Before(y.ejected)
	default:
		return x.inFlight < y.inFlight
	}
}

func (p *Picker) peek(addr string) load {
	if l := p.state[addr]; l != nil {
		return *l
	}
	return load{}
}

func (p *Picker) of(addr string) *load {
	l := p.state[addr]
	if l == nil {
		l = &load{}
		p.state[addr] = l
	}
	return l
}

func (p *Picker) done(addr string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.of(addr)
	l.inFlight--
	now := time.Now()
	if notConnected(err) {
		l.ejected = now.Add(ejectFor)
	}
	for a, l := range p.state { // addresses come and go; keep what still says something
		if l.inFlight == 0 && !now.Before(l.ejected) {
			delete(p.state, a)
		}
	}
}

// notConnected says whether err shows that no connection was made, so that the
// request cannot have been received.
func notConnected(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
