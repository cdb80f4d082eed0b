package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/postgres"
	"pavane/shared/tracing"
)

// The statement of a change and the insert: %[1]s is the statement of the caller,
// %[2]s the condition that rings the bell, the rest are the numbers of the parameters.
// A second row is one too many for the subquery, and a number below 1 becomes null,
// which the column refuses: either undoes the whole.
const (
	changed       = "with changed (version) as (\n%[1]s\n)\n"
	number        = `(select nullif(greatest(c.version, 0), 0) from changed c)`
	changeOneSQL  = changed + into + `select $%[3]d, $%[4]d, ` + number + `, $%[5]d, $%[6]d, $%[7]d, $%[8]d where exists (select from changed) and %[2]s`
	changeManySQL = changed + into + `select t.topic, t.key, ` + number + ` + t.place - 1, t.event_id, t.type, t.headers, t.payload
from unnest($%[3]d::text[], $%[4]d::text[], $%[5]d::text[], $%[6]d::text[], $%[7]d::bytea[], $%[8]d::bytea[]) with ordinality
  as t (topic, key, event_id, type, headers, payload, place) where exists (select from changed) and (select %[2]s) order by t.place`
)

// errUnchanged ends the spans of events that are not appended.
var errUnchanged = errors.New("nothing was changed, so nothing is told")

// Change runs a statement that changes the row of a key and appends the events that
// tell of it, in one round trip to the database: one less than a statement and
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
// that row's key. A statement that returns several rows or a number below 1 is an
// error, and the transaction can only be rolled back. The rest is as with Append.
func (o *Outbox) Change(ctx context.Context, tx *sqlx.Tx, events []event.Event, statement string, args ...any) (changed bool, err error) {
	c, err := o.newChange(ctx, events, statement, args)
	if err != nil {
		return false, err
	}
	changed, err = c.ended(tx.ExecContext(ctx, c.text, c.args...))
	if changed {
		postgres.OnCommit(ctx, func() { o.committed(c.rows) })
	}
	return changed, err
}

// ChangeNow is [Outbox.Change] as a transaction of its own, in one round trip in place
// of three. When the answer is lost the error is [postgres.ErrCommitUnknown]: ask again
// where the statement's WHERE or ON CONFLICT has it change nothing a second time.
func (o *Outbox) ChangeNow(ctx context.Context, db *postgres.DB, events []event.Event, statement string, args ...any) (changed bool, err error) {
	c, err := o.newChange(ctx, events, statement, args)
	if err != nil {
		return false, err
	}
	changed, err = c.ended(db.ExecOnce(ctx, c.text, c.args...))
	if changed {
		o.committed(c.rows)
	}
	return changed, err
}

// change is a statement with the events that tell of it.
type change struct {
	rows  []row
	spans tracing.Spans
	text  string
	args  []any
}

func (o *Outbox) newChange(ctx context.Context, events []event.Event, statement string, args []any) (*change, error) {
	if highest := highestParameter(statement); highest != len(args) {
		return nil, fmt.Errorf("outbox: the statement's highest parameter is $%d, and it is given %d arguments", highest, len(args))
	}
	unnumbered, err := ofOneKey(events)
	if err != nil {
		return nil, err
	}
	c := &change{}
	if c.rows, err = o.rows(ctx, unnumbered, &c.spans); err != nil {
		c.spans.End(err)
		return nil, err
	}
	text, n, r := changeOneSQL, len(args), c.rows[0]
	c.args = append(make([]any, 0, n+6), args...)
	if len(c.rows) == 1 {
		c.args = append(c.args, r.topic, r.key, r.id, r.kind, r.headers, r.payload)
	} else {
		text = changeManySQL
		all := columnsOf(c.rows)
		c.args = append(c.args, postgres.Array(all.topics), postgres.Array(all.keys), postgres.Array(all.ids),
			postgres.Array(all.kinds), postgres.Array(all.headers), postgres.Array(all.payloads))
	}
	c.text = fmt.Sprintf(text, statement, o.ring, n+1, n+2, n+3, n+4, n+5, n+6)
	return c, nil
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

// ended takes in what came of the statement.
func (c *change) ended(res sql.Result, err error) (changed bool, _ error) {
	var appended int64
	if err == nil {
		appended, err = res.RowsAffected()
	}
	if err != nil {
		err = fmt.Errorf("outbox: change and append %s of key %q: %w", c.rows[0].kind, c.rows[0].key, err)
		c.spans.End(err)
		return false, err
	}
	if appended == 0 {
		c.spans.End(errUnchanged)
		return false, nil
	}
	c.spans.End(nil)
	return true, nil
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
