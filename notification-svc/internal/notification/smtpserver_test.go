package notification_test

import (
	"bufio"
	"io"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"sync"
	"testing"
)

// smtpServer is a small mail server (RFC 5321) whose answers a test can bend.
type smtpServer struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	bend  func(command string, nth int) string // "" answers as usual; "drop" cuts the connection
	count map[string]int
	taken []received
	conns int
}

// received is a mail whose data came whole, whatever the server answered.
type received struct {
	from, to  string
	messageID string
	subject   string
	body      string
	accepted  bool // the server's 250 was written
}

func startSMTP(t *testing.T) *smtpServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &smtpServer{listener: l, count: map[string]int{}}
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns++
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.wg.Wait()
	})
	return s
}

func (s *smtpServer) addr() string { return s.listener.Addr().String() }

// on sets how the nth command of a name (from 1, over all connections) is
// answered. The name "." stands for the end of the data.
func (s *smtpServer) on(bend func(command string, nth int) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bend = bend
}

// mails returns what came, in order.
func (s *smtpServer) mails() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.taken...)
}

func (s *smtpServer) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// answer returns the bent answer to a command, or the usual one.
func (s *smtpServer) answer(command, usual string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count[command]++
	if s.bend != nil {
		if bent := s.bend(command, s.count[command]); bent != "" {
			return bent
		}
	}
	return usual
}

func (s *smtpServer) serve(conn net.Conn) {
	defer conn.Close()
	c := textproto.NewConn(conn)
	if c.PrintfLine("%s", s.answer("greeting", "220 test ESMTP")) != nil {
		return
	}
	var from, to string
	for {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		command, argument, _ := strings.Cut(line, " ")
		command = strings.ToUpper(command)
		usual := "250 OK"
		switch command {
		case "EHLO":
			usual = "250-test\r\n250 8BITMIME"
		case "MAIL":
			from = argument
		case "RCPT":
			to = argument
		case "DATA":
			usual = "354 go on"
		case "QUIT":
			usual = "221 bye"
		}
		answer := s.answer(command, usual)
		if answer == "drop" || c.PrintfLine("%s", answer) != nil || command == "QUIT" {
			return
		}
		if command == "DATA" && strings.HasPrefix(answer, "354") && !s.data(c, from, to) {
			return
		}
	}
}

// data reads one mail and reports whether the session goes on.
func (s *smtpServer) data(c *textproto.Conn, from, to string) bool {
	text, err := io.ReadAll(c.DotReader())
	if err != nil {
		return false
	}
	m, err := mail.ReadMessage(bufio.NewReader(strings.NewReader(string(text))))
	if err != nil {
		return false
	}
	body, _ := io.ReadAll(quotedprintable.NewReader(m.Body))
	answer := s.answer(".", "250 taken")
	s.mu.Lock()
	s.taken = append(s.taken, received{
		from: from, to: to, messageID: m.Header.Get("Message-ID"), subject: m.Header.Get("Subject"),
		body: string(body), accepted: strings.HasPrefix(answer, "250"),
	})
	s.mu.Unlock()
	return answer != "drop" && c.PrintfLine("%s", answer) == nil
}
