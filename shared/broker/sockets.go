package broker

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
)

// sockets are the open connections of a client, so that closing it does not
// wait for an answer that may never come.
type sockets struct {
	dialer net.Dialer
	tls    func() (*tls.Config, error) // nil: none
	ctx    context.Context             // ends with shut
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	open   map[*socket]struct{}
}

type socket struct {
	net.Conn
	owner   *sockets
	reached map[Position]int // faults before a floor found that the log reaches; of who has the connection in hand
}

func newSockets(config Config) *sockets {
	ctx, cancel := context.WithCancel(context.Background())
	return &sockets{dialer: net.Dialer{Timeout: config.DialTimeout}, tls: config.TLS, ctx: ctx, cancel: cancel, open: map[*socket]struct{}{}}
}

func (s *sockets) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.dialer.Timeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	sock, err := s.connect(ctx, network, address)
	if err != nil || s.tls == nil {
		return sock, err
	}
	secured, err := s.secure(ctx, sock, address)
	if err != nil {
		_ = sock.Close()
		return nil, fmt.Errorf("TLS with %s: %w", address, err)
	}
	return secured, nil
}

func (s *sockets) connect(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := s.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return nil, errClosed
	}
	sock := &socket{Conn: conn, owner: s, reached: map[Position]int{}}
	s.open[sock] = struct{}{}
	return sock, nil
}

// secure speaks TLS over a connection.
func (s *sockets) secure(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	config, err := s.tls()
	if err != nil {
		return nil, err
	}
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		config = config.Clone()
		config.ServerName = host
	}
	client := tls.Client(conn, config)
	return client, client.HandshakeContext(ctx)
}

// under returns the socket beneath a connection, nil when there is none.
func (s *sockets) under(conn net.Conn) *socket {
	// Connections to two brokers may share a local address.
	local, remote := conn.LocalAddr().String(), conn.RemoteAddr().String()
	s.mu.Lock()
	defer s.mu.Unlock()
	for sock := range s.open {
		if sock.LocalAddr().String() == local && sock.RemoteAddr().String() == remote {
			return sock
		}
	}
	return nil
}

// drop closes the connections that are open now.
func (s *sockets) drop() {
	s.mu.Lock()
	conns := make([]net.Conn, 0, len(s.open))
	for sock := range s.open {
		conns = append(conns, sock.Conn)
	}
	s.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
}

// shut closes all connections and refuses new ones.
func (s *sockets) shut() {
	s.cancel()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.drop()
}

// Close implements net.Conn.
func (s *socket) Close() error {
	s.owner.mu.Lock()
	delete(s.owner.open, s)
	s.owner.mu.Unlock()
	return s.Conn.Close()
}
