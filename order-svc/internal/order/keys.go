package order

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

const (
	// keyLife is how long an idempotency key is kept, at least. A client that
	// repeats its request later places another order.
	keyLife = 24 * time.Hour
	// keyBatch is how many keys are deleted in one transaction.
	keyBatch = 1000
	// keyPause is the time between two rounds.
	keyPause = time.Minute

	// purgeSQL locks no rows beforehand: for that a role must be allowed to update
	// them. What another instance deletes meanwhile is waited for, and does not count.
	purgeSQL = `delete from idempotency where (customer_id, key) in (
  select customer_id, key from idempotency where created_at < statement_timestamp() - $1 * interval '1 microsecond'
  order by created_at limit $2)`
)

// PurgeKeys deletes idempotency keys that are old, until ctx ends. Several
// processes may run it on one database.
func (s *Service) PurgeKeys(ctx context.Context) error {
	tick := time.NewTicker(keyPause)
	defer tick.Stop()
	for {
		if _, err := s.PurgeKeysOnce(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "old idempotency keys are not deleted now", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// PurgeKeysOnce deletes the idempotency keys that are older than a day by the
// database's clock, and returns how many it deleted. Each batch is a transaction
// of its own.
func (s *Service) PurgeKeysOnce(ctx context.Context) (deleted int64, err error) {
	for {
		var n int64
		err := s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			res, err := tx.ExecContext(ctx, purgeSQL, keyLife.Microseconds(), keyBatch)
			if err == nil {
				n, err = res.RowsAffected()
			}
			return err
		})
		if err != nil {
			return deleted, fmt.Errorf("delete old idempotency keys: %w", err)
		}
		if deleted += n; n < keyBatch {
			return deleted, nil
		}
	}
}
