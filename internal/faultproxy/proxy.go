// Package faultproxy owns a proxy that stands between clients and a Kafka or
// Postgres server, follows what they say to each other, and makes one chosen
// request go wrong: its answer is lost, late or cut off, or the request itself
// is.
//
//	p, err := faultproxy.Start(faultproxy.Config{Protocol: faultproxy.Postgres, Target: "127.0.0.1:5432"})
//	s := p.Arm("COMMIT", 3, faultproxy.Drop, 0)
//	… clients talk to p.Addr() …
//	<-s.Struck()
//
// A kind of request is for Kafka the name of the request in its protocol
// ("Produce", "OffsetCommit"); for Postgres the first word of the statement in
// upper case ("COMMIT", "INSERT"), or CONNECT for the start of a session,
// PREPARE for a statement that is parsed and not run, CLOSE for one that is
// given up. Bytes pass unchanged but for the addresses in Kafka's answers, which
// lead to the proxy. TLS is not understood: a client must ask for plain
// connections, and Postgres clients that ask for TLS are told that there is none.
package faultproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Protocol is what a proxy understands.
type Protocol string

const (
	// Kafka is Apache Kafka's binary protocol.
	Kafka Protocol = "kafka"
	// Postgres is version 3 of the protocol of PostgreSQL.
	Postgres Protocol = "postgres"
)

// dialTimeout bounds the way to the server.
const dialTimeout = 5 * time.Second

// Config says what a proxy stands before. Protocol and Target are required.
type Config struct {
	Protocol Protocol
	Target   string // host:port of the server; of a Kafka cluster, any of its brokers
	Listen   string // host:port for clients; empty: a free port of the loopback
	Host     string // by which clients reach what listens; empty: that of Listen
}

// Proxy is a running proxy. It is safe for concurrent use.
type Proxy struct {
	cfg    Config
	host   string // that it listens on
	addr   string
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	fronts map[string]net.Listener // by the server they lead to
	links  map[*link]struct{}
	armed  []*Strike
	seen   map[string]int
	gate   chan struct{} // closed while bytes pass; an open one holds them
	slow   time.Duration // by which each answer is late
}

// Start begins to listen.
func Start(cfg Config) (*Proxy, error) {
	if cfg.Protocol != Kafka && cfg.Protocol != Postgres {
		return nil, fmt.Errorf("fault proxy: protocol %q: want %q or %q", cfg.Protocol, Kafka, Postgres)
	}
	if _, _, err := net.SplitHostPort(cfg.Target); err != nil {
		return nil, fmt.Errorf("fault proxy: target: want host:port: %w", err)
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("fault proxy: listen: want host:port: %w", err)
	}
	if cfg.Host == "" {
		cfg.Host = host
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{
		cfg: cfg, host: host, ctx: ctx, cancel: cancel,
		fronts: map[string]net.Listener{}, links: map[*link]struct{}{}, seen: map[string]int{},
		gate: make(chan struct{}),
	}
	close(p.gate)
	addr, err := p.front(cfg.Target)
	if err != nil {
		cancel()
		return nil, err
	}
	p.addr = addr
	return p, nil
}

// Addr is the host:port for clients.
func (p *Proxy) Addr() string { return p.addr }

// Close ends all connections and returns when nothing of the proxy runs any more.
func (p *Proxy) Close() {
	p.cancel()
	p.mu.Lock()
	for _, l := range p.fronts {
		_ = l.Close()
	}
	for l := range p.links {
		l.close()
	}
	p.mu.Unlock()
	p.work.Wait()
}

// front returns the address at which the proxy listens for those who want the
// server at target; each has one of its own.
func (p *Proxy) front(target string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l, ok := p.fronts[target]; ok {
		return p.reached(l), nil
	}
	if p.ctx.Err() != nil {
		return "", errors.New("fault proxy: closed")
	}
	addr := net.JoinHostPort(p.host, "0")
	if len(p.fronts) == 0 { // that of the target
		addr = p.cfg.Listen
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", fmt.Errorf("fault proxy: %w", err)
	}
	p.fronts[target] = l
	p.work.Go(func() { p.accept(l, target) })
	return p.reached(l), nil
}

// reached is the address of a listener for clients.
func (p *Proxy) reached(l net.Listener) string {
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return l.Addr().String()
	}
	return net.JoinHostPort(p.cfg.Host, port)
}

func (p *Proxy) accept(l net.Listener, target string) {
	for {
		client, err := l.Accept()
		if err != nil {
			return // closed
		}
		p.work.Go(func() { p.serve(client, target) })
	}
}

// serve lets one client talk to the server until both have done.
func (p *Proxy) serve(client net.Conn, target string) {
	if !p.pass() {
		_ = client.Close()
		return
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	server, err := dialer.DialContext(p.ctx, "tcp", target)
	if err != nil {
		_ = client.Close() // as a server that is not there
		return
	}
	l := newLink(p, client, server)
	if !p.join(l) {
		l.close()
		return
	}
	defer p.leave(l)
	var pumps sync.WaitGroup
	pumps.Go(l.requests)
	pumps.Go(l.answers)
	pumps.Wait()
	l.close()
	l.rearm()
}

func (p *Proxy) join(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links[l] = struct{}{}
	return p.ctx.Err() == nil
}

func (p *Proxy) leave(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// wait waits for d, or until enough is closed; false: the proxy was closed meanwhile.
func (p *Proxy) wait(d time.Duration, enough <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-enough:
		return true
	case <-p.ctx.Done():
		return false
	}
}
