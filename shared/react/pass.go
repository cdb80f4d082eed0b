package react

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/inbox"
)

// pass is one run of a transaction: what it has learnt and what it will write.
// When the transaction is rolled back, the pass is thrown away with it.
type pass struct {
	c  *Consumer
	tx *sqlx.Tx

	states map[inbox.ID]*inbox.State
	last   map[inbox.ID]int64
	parked []inbox.Parked
	events []event.Numbered // what the handlers tell
	// replaying is set while a parked record is applied: it is the lowest of
	// its key, so nothing that is parked holds it back.
	replaying bool

	applied, duplicates, gaps int
	settle                    bool // parked records may have become due
}

func (c *Consumer) newPass(tx *sqlx.Tx) *pass {
	return &pass{c: c, tx: tx, states: map[inbox.ID]*inbox.State{}, last: map[inbox.ID]int64{}}
}

// load asks the inbox for the states of all keys at once.
func (p *pass) load(ctx context.Context, items []item) error {
	ids := make([]inbox.ID, 0, len(items))
	for i := range items {
		if items[i].bad == nil {
			ids = append(ids, items[i].id())
		}
	}
	slices.SortFunc(ids, func(a, b inbox.ID) int { return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Key, b.Key)) })
	ids = slices.Compact(ids)
	if len(ids) == 0 {
		return nil
	}
	states, err := inbox.Load(ctx, p.tx, ids)
	if err != nil {
		return err
	}
	for i, id := range ids {
		p.states[id] = &states[i]
	}
	return nil
}

// take decides on one record: drop, apply or park it.
func (p *pass) take(ctx context.Context, it *item) error {
	if it.bad != nil {
		p.parked = append(p.parked, it.parked(inbox.Undecodable, it.bad.Error()))
		return nil
	}
	st := p.states[it.id()]
	blocked := st.Head != 0 && st.Head <= it.env.Sequence && !p.replaying
	switch at := st.Place(it.env.Sequence); {
	case at == inbox.Duplicate:
		p.duplicates++
		return nil
	case at == inbox.Next && !blocked:
		return p.apply(ctx, it, st)
	case st.Head == 0:
		p.gaps++
		p.park(it, st, it.parked(inbox.Missing, fmt.Sprintf("number %d came, number %d of this key is missing", it.env.Sequence, st.Last+1)))
	default:
		p.park(it, st, it.parked(inbox.Follows, fmt.Sprintf("waits for number %d of this key", min(st.Head, st.Last+1))))
	}
	return nil
}

func (p *pass) park(it *item, st *inbox.State, row inbox.Parked) {
	p.parked = append(p.parked, row)
	if st.Head == 0 || it.env.Sequence < st.Head {
		st.Head = it.env.Sequence
	}
	if row.Cause == inbox.Retry {
		p.settle = true
	}
}

// apply runs the handler of a record that is due and moves its key on.
func (p *pass) apply(ctx context.Context, it *item, st *inbox.State) error {
	if v := it.verdict; v != nil {
		row := it.parked(v.Cause, v.Reason)
		row.Attempts, row.RetryIn = v.Attempts, v.RetryIn
		p.park(it, st, row)
		return nil
	}
	r, ok := p.c.byKind[it.env.Kind]
	if !ok {
		// Decode has checked the kind's form.
		if name, major, _ := event.SplitKind(it.env.Kind); p.c.byName[name] {
			p.park(it, st, it.parked(inbox.UnknownVersion, fmt.Sprintf("major version %d of %s is not known to this build", major, name)))
			return nil
		}
	} else {
		events, err := p.c.handle(ctx, p.tx, r, it.env)
		if err != nil {
			return err
		}
		p.events = append(p.events, events...)
	}
	p.applied++
	st.Last = it.env.Sequence
	p.last[it.id()] = st.Last
	p.settle = p.settle || st.Head != 0
	return nil
}

// handle runs a handler. A panic is a permanent fault: the same input would
// panic again.
func (c *Consumer) handle(ctx context.Context, tx *sqlx.Tx, r Reaction, env event.Envelope) (events []event.Numbered, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fault.Permanent("reaction on %s panicked: %v\n%s", env.Kind, v, debug.Stack())
		}
	}()
	return r.Handle(ctx, tx, env)
}

// finish writes what the pass has gathered.
func (p *pass) finish(ctx context.Context, ends []inbox.Offset) error {
	if err := p.c.cfg.Outbox.Append(ctx, p.tx, p.events...); err != nil {
		return err
	}
	if err := inbox.Park(ctx, p.tx, p.parked); err != nil {
		return err
	}
	return inbox.Save(ctx, p.tx, ends, p.last)
}
