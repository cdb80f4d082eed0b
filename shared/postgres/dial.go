package postgres

import (
	"bufio"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// dialer makes connections whose every read and write has a deadline. The
// driver's own answer to a context's end is a cancel request over a new
// connection; on a silent network it leaves the read blocked (lib/pq, seen
// over 40 s for a deadline of 1 s).
type dialer struct {
	limit  time.Duration
	buffer int
}

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	nd := net.Dialer{Timeout: 5 * time.Second, KeepAlive: 5 * time.Second}
	c, err := nd.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	dc := &deadlineConn{Conn: c, limit: d.limit}
	dc.r = bufio.NewReaderSize(readFunc(dc.readRaw), d.buffer)
	if made, ok := ctx.Value(dialledKey{}).(**deadlineConn); ok {
		*made = dc
	}
	return dc, nil
}

// dialledKey is under which a context says where the connection shall be told that
// is made in it: the driver does not hand it out.
type dialledKey struct{}

type deadlineConn struct {
	net.Conn
	r     *bufio.Reader
	limit time.Duration
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }

func (c *deadlineConn) Read(b []byte) (int, error) { return c.r.Read(b) }

func (c *deadlineConn) readRaw(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *deadlineConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func mentionsSSLMode(url string) bool { return strings.Contains(url, "sslmode=") }

// isCut tells whether the other side has closed the connection, as opposed to
// silence or an address that does not answer.
func isCut(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.ErrUnexpectedEOF) || pq.As(err, pqerror.AdminShutdown) != nil
}

func isNetwork(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
