package relay

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/postgres"
)

// Refused is a key with a record that Kafka refuses for itself, such as one
// above max.message.bytes.
type Refused struct {
	Key      string    `db:"key"`
	Topic    string    `db:"topic"`
	Row      int64     `db:"since_id"` // of the outbox
	Sequence int64     `db:"sequence"`
	Kind     string    `db:"type"`
	Bytes    int64     `db:"bytes"` // of headers and payload
	Reason   string    `db:"reason"`
	Since    time.Time `db:"parked_at"`
}

// DiscardedKind is the kind of the record that [Discard] puts in the place of
// one that Kafka refuses. Consumers of the kit have no reaction on it: it takes
// its number in the sequence of its key and does nothing.
const DiscardedKind = "pavane.discarded.v1"

// discarded is the data of such a record.
type discarded struct {
	Key    string `json:"key"`
	Kind   string `json:"kind"`   // of the event that was given up
	Reason string `json:"reason"` // Kafka's answer
}

const (
	refusedSQL = `select p.key, p.topic, p.since_id, p.reason, p.parked_at, coalesce(o.sequence, 0) as sequence, coalesce(o.type, '') as type,
  coalesce(octet_length(o.headers) + octet_length(o.payload), 0) as bytes
from relay_parked p left join outbox o on o.id = p.since_id `
	refusedListSQL  = refusedSQL + `order by p.parked_at, p.key, p.topic limit $1`
	refusedPageSQL  = refusedSQL + `where (p.key, p.topic) > ($1, $2) order by p.key, p.topic limit 1000`
	refusedCountSQL = `select count(*) from relay_parked`

	// A row of the key is held back when it is of the refused one's topic and not
	// older, or of a later chunk.
	heldBack = `o.key = $1 and not outbox_replaced(o.key, o.topic, o.id, o.xid) and exists (
    select from relay_parked p join relay_journal j on j.chunk = p.chunk
    where p.key = o.key and (p.topic = o.topic and o.id >= p.since_id or o.id > j.upto_id or not pg_visible_in_snapshot(o.xid, j.target)))`
	// heldSoFarSQL walks the outbox from the first refused row on, which may take
	// a while, and holds up nobody.
	heldSoFarSQL = `select pg_current_snapshot()::text, coalesce(array_agg(o.id), '{}'),
  (select coalesce(array_agg(p.since_id order by p.topic), '{}') from relay_parked p where p.key = $1)
from outbox o where o.id >= (select min(p.since_id) from relay_parked p where p.key = $1) and ` + heldBack
	// heldSinceSQL finds what was committed since.
	heldSinceSQL = `select o.id from outbox o
where o.xid >= pg_snapshot_xmin($2::pg_snapshot) and not pg_visible_in_snapshot(o.xid, $2::pg_snapshot) and ` + heldBack

	keySQL = `select p.topic, p.since_id, p.reason from relay_parked p where p.key = $1 order by p.topic for update`
	// lastSQL finds nothing when the server has crashed since: then the snapshot
	// says nothing about what came after.
	lastSQL = `select pg_sequence_last_value('outbox_id_seq') from relay_incarnation i where i.id = $1`
	copySQL = `insert into outbox (topic, key, sequence, event_id, type, headers, payload)
select c.topic, c.key, c.sequence, c.event_id, c.type, c.headers, c.payload from (
  select o.topic, o.key, o.sequence, o.event_id, coalesce(d.kind, o.type) as type, coalesce(d.headers, o.headers) as headers,
    coalesce(d.payload, o.payload) as payload
  from outbox o left join unnest($2::bigint[], $3::text[], $4::bytea[], $5::bytea[]) as d (id, kind, headers, payload) on d.id = o.id
  where o.id = any($1::bigint[]) order by o.id) c`
	releaseSQL = `with gone as (delete from relay_parked where key = $1 returning key, topic, since_id, chunk, reason, parked_at)
insert into relay_released (key, topic, since_id, chunk, chunk_upto, target, upto_id, reason, parked_at, action, records, who, why)
select g.key, g.topic, g.since_id, g.chunk, j.upto_id, j.target, $2, g.reason, g.parked_at, $3, $4, $5, $6
from gone g join relay_journal j on j.chunk = g.chunk`
)

// ListRefused returns the keys that Kafka refuses, the longest first, at most limit.
func ListRefused(ctx context.Context, db *postgres.DB, limit int) ([]Refused, error) {
	var list []Refused
	if err := db.Select(ctx, &list, refusedListSQL, limit); err != nil {
		return nil, fmt.Errorf("relay: keys that Kafka refuses: %w", err)
	}
	return list, nil
}

// EachRefused goes through the keys that Kafka refuses, in their order, however many
// they are: it holds a thousand at a time. An error is the last that it yields.
func EachRefused(ctx context.Context, db *postgres.DB) iter.Seq2[Refused, error] {
	return postgres.Pages(func(last Refused) (page []Refused, err error) {
		if err := db.Select(ctx, &page, refusedPageSQL, last.Key, last.Topic); err != nil {
			return nil, fmt.Errorf("relay: keys that Kafka refuses behind %q: %w", last.Key, err)
		}
		return page, nil
	})
}

// CountRefused counts what [ListRefused] lists.
func CountRefused(ctx context.Context, db *postgres.DB) (n int, err error) {
	if err := db.Get(ctx, &n, refusedCountSQL); err != nil {
		return 0, fmt.Errorf("relay: number of keys that Kafka refuses: %w", err)
	}
	return n, nil
}

// Release has the held back rows of a key published, in order, because what made
// Kafka refuse one of them is mended. A record that is refused again parks the
// key again. It returns how many rows that are, none when the key is not parked.
func Release(ctx context.Context, db *postgres.DB, key, who, why string) (int, error) {
	return release(ctx, db, "redrive", key, who, why)
}

// Discard gives up the record of a key that Kafka refuses and has those behind
// it published. In its place goes a record of [DiscardedKind] with the same
// number, so that consumers meet no gap. Nobody will learn of the event.
func Discard(ctx context.Context, db *postgres.DB, key, who, why string) (int, error) {
	return release(ctx, db, "discard", key, who, why)
}

// What the held back rows were read for is not so any more; they must be read
// again.
var (
	errCrashed = errors.New("the server crashed since the held back rows were read")
	errMoved   = errors.New("the key was parked or released since the held back rows were read")
)

// releaseWithin bounds how long a release waits for writers that hold the
// outbox. Each try waits for maxWait only, as maintenance does.
const releaseWithin = 15 * time.Second

func release(ctx context.Context, db *postgres.DB, action, key, who, why string) (int, error) {
	if who == "" || why == "" {
		return 0, fmt.Errorf("relay: release of key %q: who %q, why %q: both are needed", key, who, why)
	}
	ctx, cancel := context.WithTimeout(ctx, releaseWithin)
	defer cancel()
	r := releaser{db: db, action: action, key: key, who: who, why: why}
	for {
		err := r.once(ctx)
		if err == nil || !postgres.Retryable(err) && !errors.Is(err, errCrashed) && !errors.Is(err, errMoved) || ctx.Err() != nil {
			return r.records, wrapRelease(key, err)
		}
		if sleep(ctx, 2*maxWait) != nil {
			return 0, wrapRelease(key, err)
		}
	}
}

func wrapRelease(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("relay: release of key %q: %w", key, err)
}

// releaser lets one key go. The held back rows are copied to the end of the
// outbox, where the relay finds them as it finds any new row; relay_released
// keeps it off the first copies for ever. While rows are copied nobody appends:
// a row that a transaction added before and committed later would have a lower
// id than the copies and overtake them.
type releaser struct {
	db                    *postgres.DB
	action, key, who, why string
	records               int
}

func (r *releaser) once(ctx context.Context) error {
	r.records = 0
	h, err := r.held(ctx)
	if err != nil || len(h.since) == 0 {
		return err
	}
	return r.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := alone(ctx, tx); err != nil {
			return err
		}
		return r.move(ctx, tx, h)
	})
}

// held is what is held back for a key.
type held struct {
	life, snapshot string  // of when it was read
	ids            []int64 // of the rows
	since          []int64 // the rows that Kafka refuses, by topic; none: the key is not parked
}

func (r *releaser) held(ctx context.Context) (h held, err error) {
	if h.life, err = incarnation(ctx, r.db); err != nil {
		return h, err
	}
	err = r.db.SQL().QueryRowContext(ctx, heldSoFarSQL, r.key).Scan(&h.snapshot, postgres.Array(&h.ids), postgres.Array(&h.since))
	if err != nil {
		return h, fmt.Errorf("held back rows: %w", err)
	}
	return h, nil
}

// alone keeps writers off the outbox until the transaction ends.
func alone(ctx context.Context, tx *sqlx.Tx) error {
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(`set local lock_timeout = %d`, maxWait.Milliseconds())); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `select outbox_alone()`)
	return err
}

// move is the transaction of a release. Of what was committed before h was read,
// h has what was held back for the rows that were refused by then; where others
// are now, it misses some.
func (r *releaser) move(ctx context.Context, tx *sqlx.Tx, h held) error {
	var refused []Refused
	if err := tx.SelectContext(ctx, &refused, keySQL, r.key); err != nil {
		return err
	}
	if !slices.EqualFunc(refused, h.since, func(f Refused, row int64) bool { return f.Row == row }) {
		return errMoved
	}
	var (
		since []int64
		last  int64
	)
	if err := tx.SelectContext(ctx, &since, heldSinceSQL, r.key, h.snapshot); err != nil {
		return err
	}
	err := tx.GetContext(ctx, &last, lastSQL, h.life)
	if errors.Is(err, sql.ErrNoRows) {
		return errCrashed
	}
	if err != nil {
		return err
	}
	copied, err := r.copy(ctx, tx, append(h.ids, since...), refused)
	if err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx, releaseSQL, r.key, last, r.action, copied, r.who, r.why)
	if err != nil {
		return err
	}
	switch n, err := res.RowsAffected(); {
	case err != nil:
		return err
	case n > int64(len(refused)):
		return errMoved
	case n < int64(len(refused)):
		return fmt.Errorf("the journal has lost a chunk that held it: %d of %d are there", n, len(refused))
	}
	r.records = copied
	return nil
}

// copy appends the rows again, those that are given up as what stands for them.
func (r *releaser) copy(ctx context.Context, tx *sqlx.Tx, ids []int64, refused []Refused) (int, error) {
	var (
		given             []int64
		kinds             []string
		headers, payloads [][]byte
	)
	for _, f := range refused {
		if r.action != "discard" {
			break
		}
		h, p, err := r.substitute(ctx, tx, f)
		if err != nil {
			return 0, err
		}
		given, kinds, headers, payloads = append(given, f.Row), append(kinds, DiscardedKind), append(headers, h), append(payloads, p)
	}
	res, err := tx.ExecContext(ctx, copySQL, postgres.Array(ids), postgres.Array(given), postgres.Array(kinds), postgres.Array(headers), postgres.Array(payloads))
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// substitute returns headers and payload of the record that stands for a
// refused one. Headers that are no attributes of ours are left out, for they may
// be what was too large.
func (r *releaser) substitute(ctx context.Context, tx *sqlx.Tx, f Refused) (headers, payload []byte, err error) {
	rows, err := tx.QueryContext(ctx, `select `+rowColumns+` from outbox o where o.id = $1`, f.Row)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, nil, errors.Join(fmt.Errorf("refused row %d is gone", f.Row), rows.Err())
	}
	row, err := scanRow(rows)
	if err != nil {
		return nil, nil, err
	}
	if payload, err = json.Marshal(discarded{Key: r.key, Kind: row.Kind, Reason: f.Reason}); err != nil {
		return nil, nil, err
	}
	e, err := event.Decode([]byte(r.key), row.Headers, payload)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("refused row %d is no event, so nothing can stand for it", f.Row), err)
	}
	return event.AppendHeaders(nil, e.Extra()), payload, nil
}
