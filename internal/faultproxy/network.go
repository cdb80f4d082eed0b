package faultproxy

import "time"

// Part parts the two sides from each other, as a network does that loses every
// packet: nothing passes in either direction, not even the end of a connection, and
// new ones get no answer. Join lets through what was held back, as a network delivers
// what is sent again. Parted twice is parted once.
func (p *Proxy) Part() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.joined() {
		p.gate = make(chan struct{})
	}
}

// Join ends what Part began.
func (p *Proxy) Join() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.joined() {
		close(p.gate)
	}
}

// Slow has every answer from now on come later by d; 0 ends it.
func (p *Proxy) Slow(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow = d
}

// joined is called with the lock held.
func (p *Proxy) joined() bool {
	select {
	case <-p.gate:
		return true
	default:
		return false
	}
}

// pass returns when bytes may pass; false: the proxy was closed meanwhile.
func (p *Proxy) pass() bool {
	for {
		p.mu.Lock()
		gate := p.gate
		p.mu.Unlock()
		select {
		case <-gate:
		case <-p.ctx.Done():
			return false
		}
		p.mu.Lock()
		open := p.joined() // it may have been parted again
		p.mu.Unlock()
		if open {
			return true
		}
	}
}

// delay waits as long as answers are late; false: the proxy was closed meanwhile.
func (p *Proxy) delay() bool {
	p.mu.Lock()
	d := p.slow
	p.mu.Unlock()
	return d == 0 || p.wait(d, nil)
}
