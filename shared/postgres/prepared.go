package postgres

import (
	"context"
	"database/sql/driver"
	"strings"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// maxPrepared bounds the statements that a connection keeps prepared. A program
// has fewer texts than that; one that makes texts up goes on without the gain.
const maxPrepared = 200

// preparing makes connections that prepare each statement with arguments once.
// The driver alone would parse and describe it each time, at the cost of a
// second round trip; so the first use costs what every use did, and the others
// half of it.
type preparing struct{ driver.Connector }

// Connect opens a connection.
func (p preparing) Connect(ctx context.Context) (driver.Conn, error) {
	var wire *deadlineConn
	c, err := p.Connector.Connect(context.WithValue(ctx, dialledKey{}, &wire))
	if err != nil {
		return nil, err
	}
	full, ok := c.(pqConn)
	if !ok { // another version of the driver: it works, only slower
		return c, nil
	}
	return &preparedConn{pqConn: full, wire: wire, statements: map[string]preparedStmt{}}, nil
}

// pqConn is what a connection of the driver can do.
type pqConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ConnBeginTx
	driver.QueryerContext
	driver.ExecerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
	driver.NamedValueChecker
}

type preparedStmt interface {
	driver.Stmt
	driver.StmtQueryContext
	driver.StmtExecContext
}

// preparedConn is used by one goroutine at a time, as every connection is.
type preparedConn struct {
	pqConn
	wire       *deadlineConn
	statements map[string]preparedStmt // they end with the connection
	inTx       bool
	ended      bool // by the end of a context; the driver need not know
}

// IsValid tells whether the pool may keep the connection.
func (c *preparedConn) IsValid() bool { return !c.ended && c.pqConn.IsValid() }

// endWith has the connection end soon after ctx does, unless the function that it
// returns is called before. In a transaction the context of that one has done so.
func (c *preparedConn) endWith(ctx context.Context) (stop func()) {
	if c.inTx {
		return func() {}
	}
	stopped := c.wire.endWith(ctx)
	return func() { c.ended = c.ended || !stopped() }
}

// BeginTx begins a transaction. On a connection that was cut while it was idle,
// nothing has happened yet, so the pool may take another one.
func (c *preparedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	stop := c.endWith(ctx)
	tx, err := c.pqConn.BeginTx(ctx, opts)
	if err != nil {
		stop()
		if ctx.Err() == nil && isCut(err) {
			return nil, driver.ErrBadConn
		}
		return nil, err
	}
	c.inTx = true
	return preparedTx{tx, c, stop}, nil
}

type preparedTx struct {
	driver.Tx
	c    *preparedConn
	stop func()
}

// Commit ends the transaction.
func (t preparedTx) Commit() error {
	defer t.stop()
	t.c.inTx = false
	return t.Tx.Commit()
}

// Rollback ends the transaction.
func (t preparedTx) Rollback() error {
	defer t.stop()
	t.c.inTx = false
	return t.Tx.Rollback()
}

// watched returns the context for a statement. The driver starts a goroutine to
// watch each context that can end; within a transaction one watches already for
// all of its statements, and more would cost as much as a short statement.
func (c *preparedConn) watched(ctx context.Context) context.Context {
	if c.inTx {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// QueryContext runs a query by its prepared statement.
func (c *preparedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.untilClosed(ctx, func() (driver.Rows, error) {
		st, err := c.statement(ctx, query, args)
		if err != nil {
			return nil, err
		}
		if st == nil {
			return c.pqConn.QueryContext(ctx, query, args)
		}
		rows, err := st.QueryContext(c.watched(ctx), args)
		c.forget(query, err)
		return rows, err
	})
}

// untilClosed watches over a query until its rows are closed: most of them are
// still to be read when it returns.
func (c *preparedConn) untilClosed(ctx context.Context, query func() (driver.Rows, error)) (driver.Rows, error) {
	stop := c.endWith(ctx)
	rows, err := query()
	full, ok := rows.(pqRows)
	if err != nil || !ok || c.inTx {
		stop()
		return rows, err
	}
	return watchedRows{full, stop}, nil
}

// pqRows is what rows of the driver can do.
type pqRows interface {
	driver.RowsNextResultSet
	driver.RowsColumnTypeScanType
	driver.RowsColumnTypeDatabaseTypeName
	driver.RowsColumnTypeLength
	driver.RowsColumnTypePrecisionScale
}

type watchedRows struct {
	pqRows
	stop func()
}

// Close ends the reading.
func (r watchedRows) Close() error {
	defer r.stop()
	return r.pqRows.Close()
}

// ExecContext runs a statement by its prepared form.
func (c *preparedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if c.inTx || ctx.Value(onceKey{}) == nil {
		return c.exec(ctx, query, args)
	}
	if !c.wire.quiet() {
		return nil, driver.ErrBadConn // cut while it was idle; nothing has happened yet, so the pool may take another one
	}
	res, err := c.exec(ctx, query, args)
	return res, answered(err)
}

func (c *preparedConn) exec(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	defer c.endWith(ctx)()
	st, err := c.statement(ctx, query, args)
	if err != nil {
		return nil, err
	}
	if st == nil {
		return c.pqConn.ExecContext(ctx, query, args)
	}
	res, err := st.ExecContext(c.watched(ctx), args)
	c.forget(query, err)
	return res, err
}

// statement returns the prepared form of a text, nil when it shall be run as it
// is: without arguments that takes one round trip anyway, and may be several
// statements at once.
func (c *preparedConn) statement(ctx context.Context, query string, args []driver.NamedValue) (preparedStmt, error) {
	if len(args) == 0 {
		return nil, nil
	}
	if st, ok := c.statements[query]; ok {
		return st, nil
	}
	if len(c.statements) >= maxPrepared {
		return nil, nil
	}
	made, err := c.pqConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	st, ok := made.(preparedStmt)
	if !ok {
		return nil, made.Close()
	}
	c.statements[strings.Clone(query)] = st
	return st, nil
}

// PrepareContext prepares a statement for the caller to keep.
func (c *preparedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	defer c.endWith(ctx)()
	made, err := c.pqConn.PrepareContext(ctx, query)
	if st, ok := made.(preparedStmt); ok && err == nil {
		return watchedStmt{st, c}, nil
	}
	return made, err
}

type watchedStmt struct {
	preparedStmt
	c *preparedConn
}

// QueryContext runs the statement.
func (s watchedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.c.untilClosed(ctx, func() (driver.Rows, error) { return s.preparedStmt.QueryContext(s.c.watched(ctx), args) })
}

// ExecContext runs the statement.
func (s watchedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	defer s.c.endWith(ctx)()
	return s.preparedStmt.ExecContext(s.c.watched(ctx), args)
}

// forget drops a statement that the server cannot run as it was prepared.
func (c *preparedConn) forget(query string, err error) {
	if stalePlan(err) {
		delete(c.statements, query)
	}
}

// stalePlan tells whether a statement must be prepared anew: a migration has
// changed what it returns, or somebody deallocated it.
func stalePlan(err error) bool {
	e := pq.As(err, pqerror.FeatureNotSupported, pqerror.InvalidSQLStatementName)
	return e != nil && (e.Code == pqerror.InvalidSQLStatementName || strings.Contains(e.Message, "cached plan must not change result type"))
}
