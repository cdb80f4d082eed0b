package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"pavane/shared/fault"
)

// ErrCommitUnknown is in the chain of an error when the answer to COMMIT was
// lost: the transaction may or may not stand. The caller runs the whole unit
// again, which must therefore be safe to repeat.
var ErrCommitUnknown = errors.New("the answer to COMMIT was lost, so its outcome is unknown")

// errNested refuses a transaction within a transaction of the same context:
// it would wait for its own locks, or for a connection its parent holds.
var errNested = errors.New("transaction within a transaction; pass the tx on instead")

const maxAttempts = 6

type txKey struct{}

// txState gathers what to do once the transaction of a context is committed.
type txState struct {
	onCommit []func()
}

// OnCommit has f called once the transaction that [DB.InTx] runs under ctx is
// committed; without such a transaction it does nothing. f must not block.
func OnCommit(ctx context.Context, f func()) {
	if s, ok := ctx.Value(txKey{}).(*txState); ok {
		s.onCommit = append(s.onCommit, f)
	}
}

// InTx runs f in a transaction at READ COMMITTED. An error or a panic of f
// rolls back. A serialization failure, a deadlock or a lock timeout runs f
// again, six times at most, so f must change nothing but the database and its
// own variables. A lost answer to COMMIT is [ErrCommitUnknown].
func (d *DB) InTx(ctx context.Context, f func(ctx context.Context, tx *sqlx.Tx) error) error {
	return d.transact(ctx, &sql.TxOptions{}, f)
}

// Read runs f in a read-only transaction at REPEATABLE READ, so all that it
// reads is of one moment.
func (d *DB) Read(ctx context.Context, f func(ctx context.Context, tx *sqlx.Tx) error) error {
	return d.transact(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead}, f)
}

// Get reads one row into dest by one query outside any transaction: it is of one
// moment anyway, and costs a third of [DB.Read]. The query must change nothing,
// because the driver may run it twice. No row is [sql.ErrNoRows].
func (d *DB) Get(ctx context.Context, dest any, query string, args ...any) error {
	return d.reading(ctx, func() error { return d.db.GetContext(ctx, dest, query, args...) })
}

// Select is [DB.Get] for any number of rows; dest is a pointer to a slice.
func (d *DB) Select(ctx context.Context, dest any, query string, args ...any) error {
	return d.reading(ctx, func() error {
		reflect.ValueOf(dest).Elem().SetZero() // a first try may have left rows
		return d.db.SelectContext(ctx, dest, query, args...)
	})
}

// reading runs f again on connections that turn out to be cut.
func (d *DB) reading(ctx context.Context, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || attempt == maxAttempts || ctx.Err() != nil || !isCut(err) && !stalePlan(err) {
			return classify(err)
		}
	}
}

func (d *DB) transact(ctx context.Context, opts *sql.TxOptions, f func(context.Context, *sqlx.Tx) error) error {
	if _, ok := ctx.Value(txKey{}).(*txState); ok {
		return errNested
	}
	return repeated(ctx, func() error { return d.once(ctx, opts, f) })
}

// repeated runs f again while others are in its way.
func repeated(ctx context.Context, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || attempt == maxAttempts || !conflicted(err) {
			return err
		}
		pause := time.Duration(rand.Int64N(int64(time.Millisecond) << attempt)) // #nosec G404 -- a pause is no secret
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

func (d *DB) once(ctx context.Context, opts *sql.TxOptions, f func(context.Context, *sqlx.Tx) error) (err error) {
	tx, err := d.db.BeginTxx(ctx, opts)
	if err != nil {
		return unavailable("begin", err)
	}
	// The rollback's own error says nothing new: either the transaction has
	// ended or the connection is gone and the server rolls back by itself.
	defer tx.Rollback() //nolint:errcheck // see above
	state := &txState{}
	if err := f(context.WithValue(ctx, txKey{}, state), tx); err != nil {
		return classify(err)
	}
	if ctx.Err() != nil { // the pool would not ask for a commit, but not say so clearly
		return fmt.Errorf("database: rolled back: %w", ctx.Err())
	}
	if err := tx.Commit(); err != nil {
		return commitError(err)
	}
	for _, f := range state.onCommit {
		f()
	}
	return nil
}

// commitError tells a refused commit (the server answered: a deferred
// constraint, a serialization failure) from one whose answer was lost.
func commitError(err error) error {
	if pq.As(err) != nil && !connectionLost(err) {
		return classify(err)
	}
	return fault.Unavailable("commit: %w: %w", ErrCommitUnknown, err)
}

func classify(err error) error {
	if fault.ClassOf(err) == fault.ClassUnknown && Retryable(err) {
		return unavailable("statement", err)
	}
	return err
}

func unavailable(what string, err error) error {
	return fault.Unavailable("database: %s: %w", what, err)
}

// conflicted tells whether another transaction was in the way, perhaps that of a
// migration, and this one was surely rolled back.
func conflicted(err error) bool {
	return stalePlan(err) || pq.As(err, pqerror.TRSerializationFailure, pqerror.TRDeadlockDetected, pqerror.LockNotAvailable) != nil
}

// Retryable tells whether the same unit may succeed when run again: conflicts,
// lost connections, a server that starts, stops or has no room.
func Retryable(err error) bool {
	return err != nil && (conflicted(err) || connectionLost(err))
}

func connectionLost(err error) bool {
	e := pq.As(err)
	if e == nil {
		return isNetwork(err)
	}
	code := string(e.Code)
	switch {
	case ofClass(code, "08", "57P", "53", "58"):
		return true // connection, operator intervention, resources, input/output
	case code == "57014", code == "25006", code == "25P03":
		return true // cancelled or timed out, demoted primary, idle in transaction
	}
	return false
}

// Elsewhere tells whether err, which came up while tx was open and looks like the
// loss of a connection, is not of tx's: a file that ended too early, another server
// that did not answer. Such an error bears no SQLSTATE, and tx's server answers.
func Elsewhere(ctx context.Context, tx *sqlx.Tx, err error) bool {
	if pq.As(err) != nil || !isNetwork(err) {
		return false
	}
	_, err = tx.ExecContext(ctx, `select 1`)
	return err == nil || pq.As(err) != nil && !connectionLost(err)
}

// Cancelled tells whether a statement had its time limit run out, or somebody
// cancelled it. A wait for a lock that took too long is another error.
func Cancelled(err error) bool { return pq.As(err, pqerror.QueryCanceled) != nil }

// ofClass tells whether an SQLSTATE begins with one of these.
func ofClass(code string, classes ...string) bool {
	return slices.ContainsFunc(classes, func(class string) bool { return strings.HasPrefix(code, class) })
}

// Unfit tells whether a value that the statement was given is none that its type
// can hold, such as a text with NUL or a number out of range: the same input
// fails again (SQLSTATE class 22).
func Unfit(err error) bool {
	e := pq.As(err)
	return e != nil && ofClass(string(e.Code), "22")
}

// Unique tells whether err is the violation of a unique constraint. The
// transaction it happened in can only be rolled back; prefer ON CONFLICT.
func Unique(err error) bool { return pq.As(err, pqerror.UniqueViolation) != nil }

// Constraint returns the name of the constraint that err violates, or "".
func Constraint(err error) string {
	if e := pq.As(err); e != nil && ofClass(string(e.Code), "23") {
		return e.Constraint
	}
	return ""
}
