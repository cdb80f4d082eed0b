package notification

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"strconv"
	"strings"
	"sync"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"pavane/shared/fault"
)

// SMTPConfig says how to reach a mail server.
type SMTPConfig struct {
	Addr     string `desc:"host:port of the mail server; empty: mails stay pending and /readyz says so"`
	From     string `default:"Pavane <orders@pavane.example>" desc:"sender of the mails; its domain also ends each Message-ID"`
	TLS      string `default:"auto" desc:"starttls, implicit, none, or auto: starttls, but none when the server is on the loopback"`
	User     string `desc:"user name; empty: no authentication"`
	Password string `secret:"true" desc:"password of the user"`
}

// Validate refuses what could only fail at the first mail.
func (c SMTPConfig) Validate() error {
	var errs []error
	if c.Addr != "" {
		if _, _, err := c.split(); err != nil {
			errs = append(errs, err)
		}
	}
	if _, err := netmail.ParseAddress(c.From); err != nil {
		errs = append(errs, fmt.Errorf("PAVANE_SMTP_FROM=%q: want an address such as Pavane <orders@pavane.example>: %w", c.From, err))
	}
	switch c.TLS {
	case "auto", "starttls", "implicit", "none":
	default:
		errs = append(errs, fmt.Errorf("PAVANE_SMTP_TLS=%q: want auto, starttls, implicit or none", c.TLS))
	}
	if c.User != "" && c.plain() {
		errs = append(errs, fmt.Errorf("PAVANE_SMTP_USER=%q without TLS would send the password in the clear; set PAVANE_SMTP_TLS to starttls or implicit", c.User))
	}
	return errors.Join(errs...)
}

func (c SMTPConfig) split() (host string, port int, err error) {
	host, service, err := net.SplitHostPort(c.Addr)
	if err == nil {
		port, err = strconv.Atoi(service)
	}
	if err != nil || host == "" || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("PAVANE_SMTP_ADDR=%q: want host:port, such as mail.example:587", c.Addr)
	}
	return host, port, nil
}

// plain tells whether mails go out without TLS.
func (c SMTPConfig) plain() bool {
	if c.TLS != "auto" {
		return c.TLS == "none"
	}
	host, _, err := net.SplitHostPort(c.Addr)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip.IsLoopback())
}

// SMTP is a [Carrier] over SMTP (RFC 5321).
type SMTP struct {
	config SMTPConfig
	host   string
	port   int
	domain string // of the sender
}

// NewSMTP returns a carrier to the server of a valid c with an address. It does
// not connect.
func NewSMTP(c SMTPConfig) (*SMTP, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	host, port, err := c.split()
	if err != nil {
		return nil, err
	}
	from, err := netmail.ParseAddress(c.From)
	if err != nil {
		return nil, err // Validate has found it well formed
	}
	_, domain, _ := strings.Cut(from.Address, "@")
	return &SMTP{config: c, host: host, port: port, domain: domain}, nil
}

// Open connects, encrypts and authenticates.
func (s *SMTP) Open(ctx context.Context) (Connection, error) {
	sock := &socket{}
	client, err := mail.NewClient(s.host, s.options(sock)...)
	if err != nil {
		return nil, fmt.Errorf("mail server %s: %w", s.config.Addr, err)
	}
	// A context ends neither the greeting nor the login of this client.
	defer context.AfterFunc(ctx, sock.close)()
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		sock.close() // the client leaves it open when the greeting fails
		return nil, fmt.Errorf("mail server %s: %w", s.config.Addr, err)
	}
	return &smtpConnection{from: s.config.From, domain: s.domain, client: client, session: session, socket: sock}, nil
}

func (s *SMTP) options(sock *socket) []mail.Option {
	implicit := s.config.TLS == "implicit"
	policy := mail.TLSMandatory
	switch {
	case implicit:
		policy = mail.TLSOpportunistic // makes the client look whether the connection has TLS already
	case s.config.plain():
		policy = mail.NoTLS
	}
	settings := &tls.Config{ServerName: s.host, MinVersion: tls.VersionTLS12}
	options := []mail.Option{
		mail.WithPort(s.port), mail.WithTimeout(sendTime), mail.WithTLSPolicy(policy), mail.WithTLSConfig(settings),
		mail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			return sock.dial(ctx, network, address, implicit, settings)
		}),
	}
	if s.config.User != "" {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(s.config.User), mail.WithPassword(s.config.Password))
	}
	return options
}

// smtpConnection is an open session.
type smtpConnection struct {
	from, domain string
	client       *mail.Client
	session      *smtp.Client
	socket       *socket
}

// Send implements [Connection].
func (c *smtpConnection) Send(ctx context.Context, m Message) error {
	msg, err := c.compose(m)
	if err != nil {
		return fault.Permanent("%w", err)
	}
	defer context.AfterFunc(ctx, c.socket.close)()
	err = c.client.SendWithSMTPClient(c.session, msg)
	// The client also reports what fails after the server took the mail: the
	// reset for the next one.
	if err == nil || msg.IsDelivered() {
		return nil
	}
	switch {
	case refused(err):
		return fault.Permanent("%w", err)
	case deferred(err):
		return fmt.Errorf("%w: %w", ErrDeferred, err)
	}
	return err
}

func (c *smtpConnection) compose(m Message) (*mail.Msg, error) {
	msg := mail.NewMsg()
	if err := msg.From(c.from); err != nil {
		return nil, fmt.Errorf("sender %q: %w", c.from, err)
	}
	if err := msg.To(m.Recipient); err != nil {
		return nil, fmt.Errorf("recipient %q: %w", m.Recipient, err)
	}
	msg.Subject(m.Subject)
	msg.SetDate()
	msg.SetMessageIDWithValue(m.MessageID(c.domain))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no automatic answers
	msg.SetBodyString(mail.TypeTextPlain, m.Body)
	return msg, nil
}

// refused tells whether the server answered that it will never take this mail
// for this recipient: 5yz (RFC 5321, 4.2.1).
func refused(err error) bool {
	var e *mail.SendError
	if !errors.As(err, &e) || e.IsTemp() {
		return false
	}
	code := e.ErrorCode()
	return code >= 500 && code <= 599
}

// deferred tells whether the server answered that it does not take a mail for this
// recipient now, and goes on with the session: 4yz, but for 421, with which it ends
// (RFC 5321, 3.8).
func deferred(err error) bool {
	var e *mail.SendError
	if !errors.As(err, &e) || e.Reason != mail.ErrSMTPRcptTo {
		return false
	}
	code := e.ErrorCode()
	return code >= 400 && code <= 499 && code != 421
}

// Close says goodbye if the server still listens.
func (c *smtpConnection) Close() {
	c.client.CloseWithSMTPClient(c.session) //nolint:errcheck // the mails are with the server already
	c.socket.close()
}

// socket is the connection under a session, kept so that it can be cut.
type socket struct {
	mu     sync.Mutex
	conn   net.Conn
	closed bool
}

func (s *socket) dial(ctx context.Context, network, address string, implicit bool, settings *tls.Config) (conn net.Conn, err error) {
	dialer := &net.Dialer{}
	if implicit {
		conn, err = (&tls.Dialer{NetDialer: dialer, Config: settings}).DialContext(ctx, network, address)
	} else {
		conn, err = dialer.DialContext(ctx, network, address)
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = conn
	if s.closed {
		conn.Close() //nolint:errcheck // not used yet
	}
	return conn, nil
}

func (s *socket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.conn != nil {
		s.conn.Close() //nolint:errcheck // cut, whatever state it is in
	}
}
