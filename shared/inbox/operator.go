package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/fault"
	"pavane/shared/postgres"
)

const (
	// waitingSQL tells of each key by its lowest record.
	waitingSQL = `select distinct on (p.source, p.key) p.source, p.key, p.sequence, p.topic, p.partition, p.record_offset, p.type, p.reason, p.cause,
    p.attempts, min(p.parked_at) over w as parked_at, count(*) over w as records
  from parked p window w as (partition by p.source, p.key) order by p.source, p.key, p.sequence, p.record_offset`
	shownSQL = `h.source, h.key, h.sequence, h.topic, h.partition, h.record_offset, h.type, h.reason, h.cause, h.attempts,
  h.parked_at, h.records, coalesce(i.last_seq, 0) as last_seq`
	lastSQL = ` left join inbox i on i.source = h.source and i.key = h.key `
	listSQL = `select ` + shownSQL + ` from (` + waitingSQL + `) h` + lastSQL + `order by h.parked_at, h.source, h.key limit $1`
	// pageSQL tells the same of the keys behind one, and reads no more than it tells:
	// with the window it would go through all of them for each page.
	pageSQL = `select ` + shownSQL + ` from (
  select l.source, l.key, l.sequence, l.topic, l.partition, l.record_offset, l.type, l.reason, l.cause, l.attempts, w.parked_at, w.records
  from (select distinct on (p.source, p.key) p.source, p.key, p.sequence, p.topic, p.partition, p.record_offset, p.type, p.reason, p.cause, p.attempts
    from parked p where (p.source, p.key) > ($1, $2) order by p.source, p.key, p.sequence, p.record_offset limit 1000) l,
  lateral (select min(p.parked_at) as parked_at, count(*) as records from parked p where p.source = l.source and p.key = l.key) w) h` +
		lastSQL + `order by h.source, h.key`

	byCauseSQL = `select ` + shownSQL + `, h.keys, h.oldest from (
  select k.source, k.key, k.sequence, k.topic, k.partition, k.record_offset, k.type, k.reason, k.cause, k.attempts, k.parked_at, k.records,
    row_number() over (partition by k.cause order by k.parked_at, k.source, k.key) as place,
    count(*) over c as keys, min(k.parked_at) over c as oldest
  from (` + waitingSQL + `) k window c as (partition by k.cause)) h` + lastSQL + `where h.place <= $1 order by h.cause, h.place`

	// The partitions a key's records came from; one, unless their number was
	// changed. Locking their offsets keeps the consumer away.
	holdKeySQL = `select o.next_offset from inbox_offset o
where (o.topic, o.partition) in (select p.topic, p.partition from parked p where p.source = $1 and p.key = $2)
order by o.topic, o.partition for update`

	// Only the lowest record of a key has a cause of its own, but every
	// undecodable one has.
	redriveSQL = `with moved as (
  update parked set cause = 'follows', attempts = 0, retry_at = null, reason = 'redrive asked by ' || $3
  where source = $1 and key = $2 and cause in ('fault', 'undecodable', 'foreign', 'unknown_version', 'retry') returning sequence)
insert into parked_log (action, source, key, sequence, upto_seq, records, who, why)
select 'redrive', $1, $2, min(m.sequence), max(m.sequence), count(*), $3, $4 from moved m having count(*) > 0 returning records`

	discardSQL = `with gone as (
  delete from parked where source = $1 and key = $2 and sequence <= $3 and (sequence > 0 or cause in ('undecodable', 'foreign')) returning sequence)
insert into parked_log (action, source, key, sequence, upto_seq, records, who, why)
select 'discard', $1, $2, coalesce(min(g.sequence), $3), $3, count(*), $4, $5 from gone g
having count(*) > 0 or $3 > (select coalesce(max(i.last_seq), 0) from inbox i where i.source = $1 and i.key = $2) returning records`

	// Nothing is counted as handled: the log's upto_seq is what was so before.
	disownSQL = `with gone as (
  delete from parked p where p.source = $1 and p.key = $2
    and p.sequence - 1 > (select coalesce(max(i.last_seq), 0) from inbox i where i.source = $1 and i.key = $2) returning p.sequence)
insert into parked_log (action, source, key, sequence, upto_seq, records, who, why)
select 'discard', $1, $2, min(g.sequence), (select coalesce(max(i.last_seq), 0) from inbox i where i.source = $1 and i.key = $2), count(*), $3, $4
from gone g having count(*) > 0 returning records`
	releaseSQL = `update parked set cause = 'follows', retry_at = null, reason = 'the records before it were discarded'
where source = $1 and key = $2 and cause = 'gap'`

	highestSQL = `select coalesce(max(sequence), -1) from parked where source = $1 and key = $2`
)

// Group is a key that waits, told by its lowest record.
type Group struct {
	Source    string    `db:"source" json:"source"`
	Key       string    `db:"key" json:"key"`
	Sequence  int64     `db:"sequence" json:"sequence"` // 0: not decodable
	Topic     string    `db:"topic" json:"topic"`
	Partition int32     `db:"partition" json:"partition"`
	Offset    int64     `db:"record_offset" json:"offset"`
	Kind      string    `db:"type" json:"type"`
	Reason    string    `db:"reason" json:"reason"`
	Cause     Cause     `db:"cause" json:"cause"`
	Attempts  int       `db:"attempts" json:"attempts"`
	Since     time.Time `db:"parked_at" json:"since"`   // when its oldest record was parked
	Records   int       `db:"records" json:"records"`   // how many wait
	Last      int64     `db:"last_seq" json:"last_seq"` // the last applied number
}

// List returns the keys that wait, the longest first, at most limit.
func List(ctx context.Context, db *postgres.DB, limit int) ([]Group, error) {
	var groups []Group
	if err := db.Select(ctx, &groups, listSQL, limit); err != nil {
		return nil, fmt.Errorf("inbox: list parked keys: %w", err)
	}
	return groups, nil
}

// Each goes through the keys that wait, in the order of source and key, however
// many they are: it holds a thousand at a time, so what begins or ceases to wait
// meanwhile may be met or not. An error is the last that it yields.
func Each(ctx context.Context, db *postgres.DB) iter.Seq2[Group, error] {
	return postgres.Pages(func(last Group) (page []Group, err error) {
		if err := db.Select(ctx, &page, pageSQL, last.Source, last.Key); err != nil {
			return nil, fmt.Errorf("inbox: parked keys behind %q of %q: %w", last.Key, last.Source, err)
		}
		return page, nil
	})
}

// Waiting is what waits for one cause.
type Waiting struct {
	Cause  Cause
	Count  int       // of all its keys
	Oldest time.Time // since when the first of them waits
	Keys   []Group   // the first of them, the longest waiting first
}

// ListByCause returns what waits, by cause, with at most limit keys of each, from 1
// on. All are counted, so that what it takes here does not grow with what waits.
func ListByCause(ctx context.Context, db *postgres.DB, limit int) ([]Waiting, error) {
	var rows []struct {
		Group
		Keys   int       `db:"keys"`
		Oldest time.Time `db:"oldest"`
	}
	if err := db.Select(ctx, &rows, byCauseSQL, limit); err != nil {
		return nil, fmt.Errorf("inbox: list parked keys by cause: %w", err)
	}
	var all []Waiting
	for _, r := range rows {
		if n := len(all); n == 0 || all[n-1].Cause != r.Cause {
			all = append(all, Waiting{Cause: r.Cause, Count: r.Keys, Oldest: r.Oldest})
		}
		of := &all[len(all)-1]
		of.Keys = append(of.Keys, r.Group)
	}
	return all, nil
}

// Redrive lets a parked key go: the consumer applies its records again, in
// order, as soon as the one before them is applied. A record that fails again
// is parked again. Doing it twice, or for a key that does not wait for an
// operator, changes nothing. It returns how many records it let go; their
// followers are not counted.
func Redrive(ctx context.Context, db *postgres.DB, id ID, who, why string) (int, error) {
	return moved(ctx, db, "redrive of", redriveSQL, id, who, why)
}

// Discard gives up the records of a parked key up to and including a number,
// those that are parked as well as those that never came, and lets the ones
// after them go. Upto 0 gives up records that have no number: undecodable and
// foreign ones, but for those that were let go and wait for their turn. It
// refuses a number that lies above all parked ones, because later records would
// be lost unseen. Twice is harmless. It returns how many parked records it gave
// up.
func Discard(ctx context.Context, db *postgres.DB, id ID, upto int64, who, why string) (int, error) {
	if err := named(id, who, why); err != nil {
		return 0, err
	}
	var records int
	err := db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
		if _, err := tx.ExecContext(ctx, holdKeySQL, id.Source, id.Key); err != nil {
			return err
		}
		var highest int64
		if err := tx.GetContext(ctx, &highest, highestSQL, id.Source, id.Key); err != nil {
			return err
		}
		if highest < 0 {
			return fault.NotFound("key %q of %s is not parked", id.Key, id.Source)
		}
		if upto < 0 || upto > highest {
			return fault.Invalid("number %d: the parked records of key %q reach to %d", upto, id.Key, highest)
		}
		if records, err = logged(ctx, tx, discardSQL, id.Source, id.Key, upto, who, why); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, releaseSQL, id.Source, id.Key); err != nil {
			return err
		}
		if upto == 0 {
			return nil
		}
		_, err = tx.ExecContext(ctx, saveSQL, postgres.Array([]string{}), postgres.Array([]int32{}), postgres.Array([]int64{}),
			postgres.Array([]string{id.Source}), postgres.Array([]string{id.Key}), postgres.Array([]int64{upto}))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("inbox: discard of %q from %s up to %d: %w", id.Key, id.Source, upto, err)
	}
	return records, nil
}

// Disown deletes the parked records of a key that lie behind a gap, because they
// are forged, and counts nothing as handled: the key goes on with the number
// that is due. Of records that were real later ones would meet a gap. It returns
// how many it deleted.
func Disown(ctx context.Context, db *postgres.DB, id ID, who, why string) (int, error) {
	return moved(ctx, db, "disown records of", disownSQL, id, who, why)
}

// moved runs a logged statement on a key while the consumer is kept away.
func moved(ctx context.Context, db *postgres.DB, what, query string, id ID, who, why string) (int, error) {
	if err := named(id, who, why); err != nil {
		return 0, err
	}
	var records int
	err := db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
		if _, err := tx.ExecContext(ctx, holdKeySQL, id.Source, id.Key); err != nil {
			return err
		}
		records, err = logged(ctx, tx, query, id.Source, id.Key, who, why)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("inbox: %s %q from %s: %w", what, id.Key, id.Source, err)
	}
	return records, nil
}

// logged runs a statement that writes a line into the log, or none when nothing
// was to be done, and returns the line's number of records.
func logged(ctx context.Context, tx *sqlx.Tx, query string, args ...any) (records int, err error) {
	err = tx.QueryRowContext(ctx, query, args...).Scan(&records)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return records, err
}

func named(id ID, who, why string) error {
	// A record that is no event may have an empty key.
	if id.Source == "" || who == "" || why == "" {
		return fault.Invalid("source %q of key %q, who %q, why %q: all are needed", id.Source, id.Key, who, why)
	}
	return nil
}
