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
	"pavane/shared/postgres"
	"pavane/shared/tracing"
)

// pass is one run of a transaction: what it has learnt and what it will write.
// When the transaction is rolled back, the pass is thrown away with it.
type pass struct {
	c  *Consumer
	tx *sqlx.Tx

	states map[inbox.ID]*inbox.State
	last   map[inbox.ID]int64
	parked []inbox.Parked
	due    runs
	events []event.Numbered // what the handlers tell
	spans  *tracing.Spans   // of the reactions, until the transaction ends
	// replaying is set while a parked record is applied: it is the lowest of
	// its key, so nothing that is parked holds it back.
	replaying bool

	late    map[partition]bool // see [Consumer.late]
	refused map[inbox.At]int64 // the lowest offset of a record of a key that has no number

	applied, duplicates, gaps, lateStarts int
	settle                                bool // parked records may have become due
}

func (g *generation) newPass(tx *sqlx.Tx, locked []inbox.Offset) *pass {
	return &pass{
		c: g.c, tx: tx, spans: &g.spans, states: map[inbox.ID]*inbox.State{}, last: map[inbox.ID]int64{}, due: runs{last: map[string]int{}},
		late: g.c.late(locked), refused: map[inbox.At]int64{},
	}
}

// load asks the inbox for the states of all keys at once.
func (p *pass) load(ctx context.Context, items []*item) error {
	ids := make([]inbox.ID, 0, len(items))
	for _, it := range items {
		if it.bad == nil {
			ids = append(ids, it.id())
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
	return p.loadRefused(ctx, items)
}

// handle decides on each record and runs the handlers of those that are due.
func (p *pass) handle(ctx context.Context, items []*item) error {
	if err := hit(ctx, "inbox.before_handlers"); err != nil {
		return err
	}
	for _, it := range items {
		p.take(ctx, it)
	}
	for _, r := range p.due.list {
		if err := p.call(ctx, r); err != nil {
			return err
		}
	}
	return hit(ctx, "inbox.after_handlers")
}

// take decides on one record: drop, apply or park it.
func (p *pass) take(ctx context.Context, it *item) {
	if it.bad != nil {
		p.parked = append(p.parked, it.parked(it.cause, brief(it.bad)))
		p.refuse(it.at(), it.rec.Offset)
		return
	}
	st := p.states[it.id()]
	p.start(it, st)
	blocked := st.Head != 0 && st.Head <= it.env.Sequence && !p.replaying
	switch at := st.Place(it.env.Sequence); {
	case at == inbox.Duplicate:
		p.duplicates++
	case at == inbox.Next && !blocked:
		p.apply(ctx, it, st)
	case st.Head == 0 || it.env.Sequence < st.Head || p.replaying:
		// The lowest that waits, perhaps with a copy of itself: only the missing one
		// can let it go. A gap behind a record that was itself parked shows when that
		// one is out of the way.
		if st.Head == 0 || p.replaying {
			p.gaps++
		}
		p.park(it, st, it.parked(inbox.Missing, fmt.Sprintf("number %d came, number %d of this key is missing", it.env.Sequence, st.Last+1)))
	default:
		p.park(it, st, it.parked(inbox.Follows, fmt.Sprintf("waits for number %d of this key", min(st.Head, st.Last+1))))
	}
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

// apply moves the key of a record on that is due, and has its handler called.
func (p *pass) apply(ctx context.Context, it *item, st *inbox.State) {
	if v := it.verdict; v != nil {
		row := it.parked(v.Cause, v.Reason)
		row.Attempts, row.RetryIn = v.Attempts, v.RetryIn
		p.park(it, st, row)
		return
	}
	switch r, ok := p.c.byKind[it.env.Kind]; {
	case ok && r.many:
		p.due.add(r.Kind, p.traced(ctx, it))
	case ok:
		p.due.add("", p.traced(ctx, it))
	default:
		// Decode has checked the kind's form.
		if name, major, _ := event.SplitKind(it.env.Kind); p.c.byName[name] {
			p.park(it, st, it.parked(inbox.UnknownVersion, fmt.Sprintf("major version %d of %s is not known to this build", major, name)))
			return
		}
	}
	p.applied++
	st.Last = it.env.Sequence
	p.last[it.id()] = st.Last
	p.settle = p.settle || st.Head != 0
}

// traced returns the event of a record that is due. Where there are traces it
// begins the span of its reaction, and what the reaction tells goes on from it.
func (p *pass) traced(ctx context.Context, it *item) event.Envelope {
	env := it.env
	if t := p.c.cfg.Tracer; t != nil {
		span := t.Process(ctx, env.TraceParent,
			tracing.Message{ID: env.ID, Kind: env.Kind, Key: env.Key, Topic: it.rec.Topic, Sequence: env.Sequence, Saga: env.CorrelationID},
			tracing.Place{Group: p.c.cfg.Service, Partition: it.rec.Partition, Offset: it.rec.Offset})
		p.spans.Add(span)
		env.TraceParent = span.TraceParent()
	}
	return env
}

// call runs the handlers of a run and keeps what they tell.
func (p *pass) call(ctx context.Context, r run) error {
	if r.kind != "" {
		return p.tell(ctx, r.batch)
	}
	for i := range r.batch {
		if err := p.tell(ctx, r.batch[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// tell runs one handler. A panic is a permanent fault: the same input would
// panic again.
func (p *pass) tell(ctx context.Context, batch []event.Envelope) (err error) {
	kind := batch[0].Kind
	defer func() {
		if v := recover(); v != nil {
			err = fault.Permanent("reaction on %s panicked: %v\n%s", kind, v, debug.Stack())
		}
	}()
	events, err := p.c.byKind[kind].Handle(ctx, p.tx, batch...)
	p.events = append(p.events, events...)
	if transient(err) && (!postgres.Retryable(err) || postgres.Elsewhere(ctx, p.tx, err)) {
		// What the handler misses, other records may not need: it may not hold up
		// more than its key, as a database that is away does.
		return plain{err}
	}
	return err
}

// plain is an error without its class.
type plain struct{ err error }

func (p plain) Error() string { return p.err.Error() }

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
