// Package mailsink owns a mail server for the demo: it speaks SMTP on loopback,
// keeps the last mails in memory and delivers nothing.
package mailsink

import (
	"fmt"
	"io"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"sync"
	"time"
)

// kept is how many mails are remembered.
const kept = 1000

// maxBytes is the largest mail taken.
const maxBytes = 1 << 20

// idle is how long a session may say nothing.
const idle = time.Minute

// Mail is one that was taken.
type Mail struct {
	ID, To, Subject string
	At              time.Time
}

// Sink is a listening server.
type Sink struct {
	listener net.Listener

	mu    sync.Mutex
	mails []Mail
	total int
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

// Start listens on a free loopback port.
func Start() (*Sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("mail sink: %w", err)
	}
	s := &Sink{listener: l, conns: map[net.Conn]struct{}{}}
	s.wg.Go(s.accept)
	return s, nil
}

// Addr is the host:port of the server.
func (s *Sink) Addr() string { return s.listener.Addr().String() }

// Mails returns the last mails, oldest first, and how many came in all.
func (s *Sink) Mails() (last []Mail, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(last, s.mails...), s.total
}

// Close ends the server and its sessions.
func (s *Sink) Close() {
	s.listener.Close() //nolint:errcheck // nothing can be done about it
	s.mu.Lock()
	for c := range s.conns {
		c.Close() //nolint:errcheck // its session ends with it
	}
	s.conns = nil
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Sink) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		open := s.conns != nil
		if open {
			s.conns[c] = struct{}{}
			s.wg.Go(func() { s.serve(c) })
		}
		s.mu.Unlock()
		if !open {
			c.Close() //nolint:errcheck // refused
		}
	}
}

// serve is one session (RFC 5321): just enough verbs for any client that sends.
func (s *Sink) serve(c net.Conn) {
	defer func() {
		c.Close() //nolint:errcheck // the session is over
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	t := textproto.NewConn(c)
	var to []string
	reply := func(line string) bool { return t.PrintfLine("%s", line) == nil }
	for ok := reply("220 pavane mail sink"); ok; {
		if c.SetDeadline(time.Now().Add(idle)) != nil {
			return
		}
		line, err := t.ReadLine()
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			ok = reply("250-pavane") && reply("250-8BITMIME") && reply("250-SMTPUTF8") && reply("250 ENHANCEDSTATUSCODES")
		case "HELO", "NOOP", "VRFY":
			ok = reply("250 pavane")
		case "MAIL", "RSET":
			to = nil
			ok = reply("250 2.1.0 ok")
		case "RCPT":
			to = append(to, address(rest))
			ok = reply("250 2.1.5 ok")
		case "DATA":
			ok = len(to) > 0 && reply("354 go on") && s.take(t, to) && reply("250 2.0.0 taken")
		case "QUIT":
			reply("221 2.0.0 bye")
			return
		default:
			ok = reply("502 5.5.1 not known here")
		}
	}
}

// take reads a mail up to its end mark and keeps it.
func (s *Sink) take(t *textproto.Conn, to []string) bool {
	body := t.DotReader()
	m, err := mail.ReadMessage(io.LimitReader(body, maxBytes))
	if err != nil {
		return false
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total++
	s.mails = append(s.mails, Mail{
		ID: m.Header.Get("Message-ID"), To: strings.Join(to, ", "), Subject: m.Header.Get("Subject"), At: time.Now(),
	})
	if len(s.mails) > kept {
		s.mails = s.mails[len(s.mails)-kept:]
	}
	return true
}

// address takes the address out of "TO:<someone@example.test>".
func address(argument string) string {
	_, rest, _ := strings.Cut(argument, "<")
	inner, _, _ := strings.Cut(rest, ">")
	return inner
}
