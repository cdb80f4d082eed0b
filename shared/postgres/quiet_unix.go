//go:build unix

package postgres

import "syscall"

// quiet tells whether the server has said nothing since its last answer, not even
// that it closes the connection, so that a statement may be sent which must not be
// sent twice.
func (c *deadlineConn) quiet() bool {
	if c == nil { // the driver dialled in a way of its own
		return true
	}
	if c.r.Buffered() > 0 {
		return false
	}
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	var seen error
	err = raw.Control(func(fd uintptr) {
		_, _, seen = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT) // #nosec G115 -- a descriptor
	})
	return err == nil && (seen == syscall.EAGAIN || seen == syscall.EINTR) //nolint:errorlint // errors of a system call
}
