package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/postgres"
)

// ErrSpent says that a producer id is one that the journal has used. Ask Kafka for
// another one.
var ErrSpent = errors.New("the journal has used this producer id before")

const (
	spentSQL = `select exists (select from relay_journal j where j.producer_id = $1)`

	// succeedSQL puts a chunk without rows behind a head that is in the log, from
	// which the outbox goes on where it is, under another producer.
	succeedSQL = `with put as (
  insert into relay_journal (chunk, prev, prev_id, prev_xid, target, target_id, target_xid, after_id, upto_id, row_count,
    last_of_set, producer_id, producer_epoch, first_sequences, counts, stamp_ms, ends)
  select j.chunk + 1, j.prev, j.prev_id, j.prev_xid, j.target, j.target_id, j.target_xid, j.upto_id, j.upto_id, 0,
    j.last_of_set, $2, $3, '{}', '{}', j.stamp_ms, $4
  from relay_journal j where j.chunk = $1
  on conflict (chunk) do nothing returning chunk)
insert into relay_ack (chunk, acked_at, offsets) select p.chunk, clock_timestamp(), '{}' from put p`

	// Of a database that was restored into another cluster. Its rows bear numbers
	// of transactions that this one may have yet to give out; the first normal one
	// is before all of them.
	writtenBeforeSQL = `update outbox set xid = '3'`
	identifySQL      = `insert into relay_identity (system_identifier) values ($1)
on conflict (one) do update set system_identifier = excluded.system_identifier, adopted_at = clock_timestamp()`
	// The journal goes on, for parked keys speak of its chunks, with a chunk
	// behind which all rows follow.
	beginSQL = `with put as (
  insert into relay_journal (chunk, prev, prev_id, prev_xid, target, target_id, target_xid, after_id, upto_id, row_count,
    last_of_set, producer_id, producer_epoch, first_sequences, counts, stamp_ms, ends)
  values ($1 + 1, $2, 0, '0', $2, 0, '0', 0, 0, 0, true, $3, $4, '{}', '{}', 0, '{}') returning chunk)
insert into relay_ack (chunk, acked_at, offsets)
select c.chunk, clock_timestamp(), '{}' from (select p.chunk from put p union all select $1) c on conflict do nothing`
)

// Adopt has the relays of an outbox go on under a new producer id, from where
// the database is, after one refused because Kafka is ahead of it. It is for an
// operator who has settled what differs: what the log has and the database does
// not stays in the log. A chunk that was on its way comes once more. In a
// database that was restored into another cluster positions mean nothing, and
// all retained rows come once more.
//
// A journal without a chunk, in its own cluster, needs no new producer, and is an
// error. A producer id that the journal has used is ErrSpent: one that Kafka gives
// out twice because it was emptied.
func Adopt(ctx context.Context, db *postgres.DB, p broker.Producer) error {
	if err := unspent(ctx, db, p); err != nil {
		return err
	}
	for ctx.Err() == nil {
		head, err := loadHead(ctx, db)
		if err != nil {
			return err
		}
		if foreign, err := adoptCluster(ctx, db, head, p); foreign || err != nil {
			return err
		}
		if head.producer == p {
			return nil // by the round before, whose answer was lost
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

// unspent refuses a producer id under which chunks of the journal were planned:
// numbers begin at 0 again under it, and the broker, which has these chunks or is
// given them when the log is healed, would take new ones for copies.
//
// An id whose chunks have been trimmed from the journal is not found, and is as
// good as new: nothing puts its records back any more, and the broker, which goes
// by their time stamps, forgets the producer after producer.id.expiration.ms, by
// default as soon as the journal does. Where that was set to more, a number that
// begins again shows as a gap, which ends in a new epoch, but for a partition that
// had five batches or fewer of it: the broker still knows the first one.
func unspent(ctx context.Context, db *postgres.DB, p broker.Producer) error {
	var spent bool
	if err := db.SQL().QueryRowContext(ctx, spentSQL, p.ID).Scan(&spent); err != nil {
		return fmt.Errorf("relay journal: producers of before: %w", err)
	}
	if spent {
		return fmt.Errorf("producer %d: %w", p.ID, ErrSpent)
	}
	return nil
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

// adoptCluster makes this cluster the one that the journal speaks of, where it is
// another one.
func adoptCluster(ctx context.Context, db *postgres.DB, head *chunk, p broker.Producer) (foreign bool, err error) {
	system, backwards, err := identity(ctx, db, head)
	if err != nil {
		return false, err
	}
	err = db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		var known string
		err := tx.GetContext(ctx, &known, `select coalesce(max(i.system_identifier), '') from relay_identity i`)
		foreign = known != "" && known != system || backwards
		if err != nil || !foreign {
			return err
		}
		if _, err := tx.ExecContext(ctx, writtenBeforeSQL); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, identifySQL, system); err != nil {
			return err
		}
		if head.number == 0 {
			return nil
		}
		_, err = tx.ExecContext(ctx, beginSQL, head.number, origin().snapshot, p.ID, p.Epoch)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("relay: adopt another cluster's database: %w", err)
	}
	return foreign, nil
}
