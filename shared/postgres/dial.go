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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// cancelGrace is how long a statement may take to end once its context has.
const cancelGrace = time.Second

// dialer makes connections whose every read and write has a deadline. The
// driver's own answer to a context's end is one cancel request over a new
// connection. On a silent network that leaves the read blocked (lib/pq, seen
// over 40 s for a deadline of 1 s), and a server that reads it before it reads
// the statement drops it. So [deadlineConn.endSoon] has the last word.
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
	made, kept := ctx.Value(dialledKey{}).(**deadlineConn)
	nd := net.Dialer{Timeout: 5 * time.Second, KeepAlive: 5 * time.Second}
	if !kept {
		nd.Timeout = cancelGrace
	}
	c, err := nd.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	dc := &deadlineConn{Conn: c, limit: d.limit}
	dc.r = bufio.NewReaderSize(readFunc(dc.readRaw), d.buffer)
	if !kept {
		dc.endSoon()
		return dc, nil
	}
	*made = dc
	return dc, nil
}

// dialledKey is under which a context says where the connection shall be told that
// is made in it: the driver does not hand it out. A context without it is the
// driver's own, for a request to cancel, and a call does not return before that does.
type dialledKey struct{}

type deadlineConn struct {
	net.Conn
	r     *bufio.Reader
	limit time.Duration
	last  atomic.Int64 // nanoseconds since 1970 after which nothing is read or written; 0 is none
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }

func (c *deadlineConn) Read(b []byte) (int, error) { return c.r.Read(b) }

func (c *deadlineConn) readRaw(b []byte) (int, error) {
	if err := c.allow(c.SetReadDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *deadlineConn) Write(b []byte) (int, error) {
	if err := c.allow(c.SetWriteDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// allow gives the next read or write its time. It looks for the last moment only
// after it has set a later one, so that none set meanwhile is lost.
func (c *deadlineConn) allow(set func(time.Time) error) error {
	if err := set(time.Now().Add(c.limit)); err != nil {
		return err
	}
	if last := c.last.Load(); last != 0 {
		return set(time.Unix(0, last))
	}
	return nil
}

// endSoon leaves the connection a moment to end what it does, and then none.
func (c *deadlineConn) endSoon() {
	last := time.Now().Add(cancelGrace)
	c.last.Store(last.UnixNano())
	_ = c.SetDeadline(last) // a connection that is closed has ended already
}

// endWith has the connection end soon after ctx does, unless the function that it
// returns is called before; that one tells whether it was.
func (c *deadlineConn) endWith(ctx context.Context) (stop func() bool) {
	if c == nil || ctx.Done() == nil { // the driver dialled in a way of its own, or nothing can end
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, c.endSoon)
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
