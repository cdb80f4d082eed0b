package relay

import (
	"context"
	"errors"
	"fmt"

	"pavane/shared/broker"
	"pavane/shared/postgres"
)

// succeedSQL puts a chunk without rows behind a head that is in the log, from
// which the outbox goes on where it is, under another producer.
const succeedSQL = `with put as (
  insert into relay_journal (chunk, prev, prev_id, prev_xid, target, target_id, target_xid, after_id, upto_id, row_count,
    last_of_set, producer_id, producer_epoch, first_sequences, counts, stamp_ms, ends)
  select j.chunk + 1, j.prev, j.prev_id, j.prev_xid, j.target, j.target_id, j.target_xid, j.upto_id, j.upto_id, 0,
    j.last_of_set, $2, $3, '{}', '{}', j.stamp_ms, $4
  from relay_journal j where j.chunk = $1
  on conflict (chunk) do nothing returning chunk)
insert into relay_ack (chunk, acked_at, offsets) select p.chunk, clock_timestamp(), '{}' from put p`

// Adopt has the relays of an outbox go on under a new producer id, from where
// the database is, after one refused because Kafka is ahead of it. It is for an
// operator who has settled what differs: what the log has and the database does
// not stays in the log. A chunk that was on its way comes once more.
//
// A journal without a chunk needs no new producer, and is an error.
func Adopt(ctx context.Context, db *postgres.DB, p broker.Producer) error {
	for ctx.Err() == nil {
		head, err := loadHead(ctx, db)
		if err != nil {
			return err
		}
		if head.number == 0 {
			return errors.New("relay journal: it holds no chunk; there is nothing to adopt, and the first relay begins under a new producer id")
		}
		var done bool
		if head.acked {
			done, err = head.succeed(ctx, db, p)
		} else {
			done, err = head.renew(ctx, db, p, "", nil)
		}
		if done || err != nil {
			return err
		}
	}
	return ctx.Err()
}

// succeed makes p the producer of what comes after a chunk that is in the log. It
// answers false when another relay has planned on.
func (c *chunk) succeed(ctx context.Context, db *postgres.DB, p broker.Producer) (bool, error) {
	ends, err := jsonOf(c.endsAfter())
	if err != nil {
		return false, err
	}
	res, err := db.SQL().ExecContext(ctx, succeedSQL, c.number, p.ID, p.Epoch, ends)
	if err != nil {
		return false, fmt.Errorf("relay journal: new producer behind chunk %d: %w", c.number, err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}
