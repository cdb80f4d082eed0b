//go:build !unix

package postgres

// quiet cannot be told here: a statement that meets a connection that was cut is one
// whose answer is lost.
func (c *deadlineConn) quiet() bool { return true }
