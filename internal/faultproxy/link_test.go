package faultproxy

import (
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"pavane/internal/await"
)

const patience = 30 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// session is one of a client at a Postgres of which the test is both sides.
type session struct {
	t              *testing.T
	client, server net.Conn
}

// newSessions returns what begins sessions through a proxy.
func newSessions(t *testing.T) (p *Proxy, begin func() session) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	p, err = Start(Config{Protocol: Postgres, Target: l.Addr().String()})
	must(t, err)
	t.Cleanup(p.Close)
	return p, func() session {
		client, err := net.Dial("tcp", p.Addr())
		must(t, err)
		server, err := l.Accept()
		must(t, err)
		t.Cleanup(func() { _, _ = client.Close(), server.Close() })
		s := session{t, client, server}
		s.pass(client, server, startup())
		s.pass(server, client, ready())
		return s
	}
}

func ready() []byte { return message('Z', "I") }

// pass has bytes go from one side to the other.
func (s session) pass(from, to net.Conn, b []byte) {
	s.t.Helper()
	s.say(from, b)
	s.hear(to, b)
}

func (s session) hear(at net.Conn, want []byte) {
	s.t.Helper()
	got := make([]byte, len(want))
	must(s.t, at.SetReadDeadline(time.Now().Add(patience)))
	if _, err := io.ReadFull(at, got); err != nil || !slices.Equal(got, want) {
		s.t.Fatalf("heard %q, %v; want %q", got, err, want)
	}
}

func (s session) say(from net.Conn, b []byte) {
	s.t.Helper()
	_, err := from.Write(b)
	must(s.t, err)
}

func statement() []byte { return message('Q', "select 1\x00") }

// ask has a statement reach the server.
func (s session) ask() {
	s.t.Helper()
	s.pass(s.client, s.server, statement())
}

// ends waits until one side sees the end.
func (s session) ends(at net.Conn) {
	s.t.Helper()
	must(s.t, at.SetReadDeadline(time.Now().Add(patience)))
	if n, err := at.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		s.t.Errorf("%d bytes, %v; want the end", n, err)
	}
}

func requireNotStruck(t *testing.T, s *Strike) {
	t.Helper()
	select {
	case <-s.Struck():
		t.Errorf("%s has struck", s)
	default:
	}
}

func TestDisarm_AnswerIsAwaited_PassesWhole(t *testing.T) {
	t.Parallel()
	for _, fault := range []Fault{Drop, Cut, Delay} {
		p, begin := newSessions(t)
		s := begin()
		strike := p.Arm("SELECT", 1, fault, time.Hour)
		s.ask()
		first := message('T', "columns")
		if fault != Delay { // that strikes at the first byte
			s.say(s.server, first)
		}
		p.Disarm(strike)
		if fault == Delay {
			s.say(s.server, first)
		}
		rest := slices.Concat(message('C', "SELECT 1\x00"), ready())
		s.say(s.server, rest)
		s.hear(s.client, slices.Concat(first, rest))
		requireNotStruck(t, strike)
	}
}

func TestDisarm_RequestIsHeldBack_PassesAtOnce(t *testing.T) {
	t.Parallel()
	p, begin := newSessions(t)
	s := begin()
	strike := p.Arm("SELECT", 1, Late, time.Hour)
	s.say(s.client, statement())
	await.True(t, patience, "the request has come", func() bool { return p.Seen()["SELECT"] == 1 })
	p.Disarm(strike)
	s.hear(s.server, statement())
	requireNotStruck(t, strike)
}

func TestDisarm_ConnectionEndsBeforeTheAnswer_IsNotArmedAgain(t *testing.T) {
	t.Parallel()
	p, begin := newSessions(t)
	s := begin()
	strike := p.Arm("SELECT", 1, Cut, 0)
	s.ask()
	p.Disarm(strike)
	must(t, s.server.Close())
	s.ends(s.client)
	await.True(t, patience, "the session is over", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.links) == 0 })
	next := begin()
	next.ask()
	next.pass(next.server, next.client, ready())
	requireNotStruck(t, strike)
}

func TestArm_ServerEndsInsideItsAnswer_ClientSeesTheEndAndTheNextIsStruck(t *testing.T) {
	t.Parallel()
	for _, fault := range []Fault{Drop, Cut} {
		p, begin := newSessions(t)
		s := begin()
		strike := p.Arm("SELECT", 1, fault, 0)
		s.ask()
		s.say(s.server, message('T', "columns"))
		must(t, s.server.Close())
		s.ends(s.client)
		requireNotStruck(t, strike)
		next := begin()
		await.True(t, patience, "it is armed again", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.armed) == 1 })
		next.ask()
		next.say(next.server, ready())
		select {
		case <-strike.Struck():
		case <-time.After(patience):
			t.Errorf("%s did not strike", strike)
		}
	}
}

// What one side has left behind, a session with its locks, lives until the network
// has told the other one.
func TestPart_OneSideEnds_TheOtherSeesItAfterJoin(t *testing.T) {
	t.Parallel()
	for name, sides := range map[string]func(session) (ends, sees net.Conn){
		"client": func(s session) (ends, sees net.Conn) { return s.client, s.server },
		"server": func(s session) (ends, sees net.Conn) { return s.server, s.client },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, begin := newSessions(t)
			s := begin()
			ends, sees := sides(s)
			p.Part()
			must(t, ends.Close())
			must(t, sees.SetReadDeadline(time.Now().Add(500*time.Millisecond))) // the loopback is faster
			var timeout net.Error
			if n, err := sees.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("while parted: %d bytes, %v", n, err)
			}
			p.Join()
			s.ends(sees)
		})
	}
}
