package inbox

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

const aloneSQL = `select pg_advisory_xact_lock(hashtextextended('pavane consumer ' || current_schema() || ' ' || $1, 0))`

// Alone makes a transaction wait for the others of a service that began with
// [LockAlone], and them for it. It is for work beside the consumer that touches
// the same shared rows; it comes before any of them is locked.
func Alone(ctx context.Context, tx *sqlx.Tx, service string) error {
	if _, err := tx.ExecContext(ctx, aloneSQL, service); err != nil {
		return fmt.Errorf("inbox: wait for the reactions of %s: %w", service, err)
	}
	return nil
}
