package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/postgres"
	"pavane/shared/tracing"
)

// The statement of [Outbox.Change] and then the insert: %[1]s is the statement of
// the caller, %[2]s the condition that rings the bell, the rest are the numbers of
// the parameters. A number below 1 becomes null, which the column refuses.
const (
	changed      = "with changed (version) as (\n%[1]s\n)\n"
	changeOneSQL = changed + `insert into outbox (topic, key, sequence, event_id, type, headers, payload)
select $%[3]d, $%[4]d, nullif(greatest(c.version, 0), 0), $%[5]d, $%[6]d, $%[7]d, $%[8]d from changed c where %[2]s`
	changeManySQL = changed + `insert into outbox (topic, key, sequence, event_id, type, headers, payload)
select t.topic, t.key, nullif(greatest(c.version, 0), 0) + t.place - 1, t.event_id, t.type, t.headers, t.payload
from changed c, unnest($%[3]d::text[], $%[4]d::text[], $%[5]d::text[], $%[6]d::text[], $%[7]d::bytea[], $%[8]d::bytea[]) with ordinality
  as t (topic, key, event_id, type, headers, payload, place) where (select %[2]s) order by t.place`
)

// errUnchanged ends the spans of events that are not appended.
var errUnchanged = errors.New("nothing was changed, so nothing is told")

// Change runs a statement that changes the row of a key and appends the events that
// tell of it, in one round trip to the database: cheaper than a statement and
// [Outbox.Append], and no event tells of what did not change. The statement is one
// INSERT, UPDATE or DELETE, which may begin with a WITH that changes nothing, and
// returns the number of the first event: "returning version", or "returning
// version - 1" when it raises the version by two for two events. When it returns no
// row, because its WHERE found none or by ON CONFLICT DO NOTHING, nothing is
// appended and changed is false.
//
//	changed, err := out.Change(ctx, tx, []event.Event{OrderCancelled{ID: id}},
//		`update orders set state = 'cancelled', version = version + 1
//		 where id = $1 and state = 'placed' returning version`, id)
//
// A $ before a digit counts as a parameter, within a literal, too. All events are of
// that row's key. It is an error, and the transaction must be rolled back, if the
// statement returns several rows or a number below 1. The rest is as with Append.
func (o *Outbox) Change(ctx context.Context, tx *sqlx.Tx, events []event.Event, statement string, args ...any) (changed bool, err error) {
	if highest := highestParameter(statement); highest != len(args) {
		return false, fmt.Errorf("outbox: the statement's highest parameter is $%d, and it is given %d arguments", highest, len(args))
	}
	unnumbered, err := ofOneKey(events)
	if err != nil {
		return false, err
	}
	var spans tracing.Spans
	defer func() {
		if err == nil && !changed {
			spans.End(errUnchanged)
		}
		spans.End(err)
	}()
	rows, err := o.rows(ctx, unnumbered, &spans)
	if err != nil {
		return false, err
	}
	if changed, err = o.runChange(ctx, tx, statement, args, rows); changed {
		postgres.OnCommit(ctx, func() { o.committed(rows) })
	}
	return changed, err
}

// ofOneKey checks that one row can number the events. Their numbers come later.
func ofOneKey(events []event.Event) ([]event.Numbered, error) {
	if len(events) == 0 {
		return nil, errors.New("outbox: a change without an event; run its statement by itself")
	}
	unnumbered := make([]event.Numbered, len(events))
	for i, e := range events {
		if e.Key() != events[0].Key() {
			return nil, fmt.Errorf("outbox: one change with events of the keys %q and %q; a row numbers those of one key", events[0].Key(), e.Key())
		}
		unnumbered[i].Event = e
	}
	return unnumbered, nil
}

func (o *Outbox) runChange(ctx context.Context, tx *sqlx.Tx, statement string, args []any, rows []row) (bool, error) {
	text, n := changeOneSQL, len(args)
	r := rows[0]
	all := append(make([]any, 0, n+6), args...)
	if len(rows) == 1 {
		all = append(all, r.topic, r.key, r.id, r.kind, r.headers, r.payload)
	} else {
		text = changeManySQL
		c := columnsOf(rows)
		all = append(all, postgres.Array(c.topics), postgres.Array(c.keys), postgres.Array(c.ids),
			postgres.Array(c.kinds), postgres.Array(c.headers), postgres.Array(c.payloads))
	}
	res, err := tx.ExecContext(ctx, fmt.Sprintf(text, statement, o.ring, n+1, n+2, n+3, n+4, n+5, n+6), all...)
	if err != nil {
		return false, fmt.Errorf("outbox: change and append %s of key %q: %w", r.kind, r.key, err)
	}
	appended, err := res.RowsAffected()
	if err != nil {
		return false, err
	}
	if appended > int64(len(rows)) {
		return false, fmt.Errorf("outbox: the statement with %s of key %q returned %d rows; it must change one", r.kind, r.key, appended/int64(len(rows)))
	}
	return appended > 0, nil
}

// highestParameter returns the highest n of the $n in a statement, 0 without any.
// With too few arguments a $n of the caller's would mean one of the event's.
func highestParameter(statement string) (highest int) {
	for i := 0; i < len(statement); i++ {
		if statement[i] != '$' {
			continue
		}
		end := i + 1
		for end < len(statement) && '0' <= statement[end] && statement[end] <= '9' {
			end++
		}
		if n, err := strconv.Atoi(statement[i+1 : end]); err == nil {
			highest = max(highest, n)
		}
	}
	return highest
}
