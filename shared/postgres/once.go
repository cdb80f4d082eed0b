package postgres

import (
	"context"
	"database/sql"
	"errors"

	"github.com/lib/pq"

	"pavane/shared/fault"
)

// ExecOnce runs one statement as a transaction of its own: one round trip in place
// of the three that [DB.InTx] takes at least. No other autocommit statement may
// change anything, because the pool runs one again whose connection breaks; this one
// it does not. When the answer is lost the error is [ErrCommitUnknown], and the
// caller decides whether a second time is harmless. What surely was rolled back
// because others were in the way is run again, six times at most.
func (d *DB) ExecOnce(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if _, ok := ctx.Value(txKey{}).(*txState); ok {
		return nil, errNested
	}
	ctx = context.WithValue(ctx, onceKey{}, true)
	var res sql.Result
	err := repeated(ctx, func() (err error) {
		res, err = d.db.ExecContext(ctx, query, args...)
		return err
	})
	var lost unanswered
	if errors.As(err, &lost) {
		return nil, fault.Unavailable("statement: %w: %w", ErrCommitUnknown, lost.err)
	}
	return res, classify(err)
}

// onceKey marks a context whose statement must not be run twice.
type onceKey struct{}

// unanswered hides from the pool that a connection broke while a statement was under
// way: it would run it again on another one (lib/pq#939).
type unanswered struct{ err error }

func (u unanswered) Error() string { return u.err.Error() }

// answered passes on the server's own word that a statement failed, which undoes it.
// All else leaves open what became of it.
func answered(err error) error {
	if e := pq.As(err); err == nil || e != nil && !endsSession(string(e.Code)) {
		return err
	}
	return unanswered{err}
}

// endsSession tells whether an error of this code can be the last word of a session,
// which the server may say between a commit and its answer: connection, resources,
// a timeout or an operator, input and output, its own fault. Its severity comes in
// the server's language.
func endsSession(code string) bool {
	return ofClass(code, "08", "25P", "53", "57P", "58", "F0", "XX")
}
