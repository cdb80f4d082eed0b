package search

import (
	"fmt"
	"slices"
	"strings"
)

// local is all that belongs to one order: its row in each service, what each
// has published of it, and how far each reader is. It is comparable, so that
// equal states get one number.
type local struct {
	state  [maxServices]uint8
	logs   [maxServices]log
	pos    [maxServices][maxServices]uint8 // reader, source: records of the log delivered
	last   [maxServices][maxServices]uint8 // reader, source: the inbox's last number
	booked [bookingKinds]uint8
}

// log is what a service has published of an order, copies of a relay that sent
// again included.
type log struct {
	n, seq  uint8 // records; the number of the last event
	records [maxLog]record
}

type record struct{ seq, kind uint8 }

// resource is what is asked in a step.
type resource uint8

const (
	nothing resource = iota
	stock
	wallet
)

// step is a move of one order and where it leads.
type step struct {
	move
	to      int32
	asks    resource
	granted bool
}

// part is a local state with what is known of it.
type part struct {
	local
	taken int    // times the items are out of what is available
	sold  int    // times they are sold
	held  int    // times the price is out of the wallet
	bad   string // which promise it breaks; empty: none
	quiet bool   // the order is placed, and every record has come to its readers
	steps []step // once expanded
	done  bool   // expanded
}

// id returns the number of a local state.
func (m *Model) id(l *local) int32 {
	if id, ok := m.ids[*l]; ok {
		return id
	}
	id := int32(len(m.parts))
	m.ids[*l] = id
	b := &l.booked
	p := part{local: *l, taken: int(b[reserve]) - int(b[release]), sold: int(b[ship]), held: int(b[authorize]) - int(b[void])}
	p.quiet = m.isQuiet(l)
	p.bad = m.judge(l, p.quiet)
	m.parts = append(m.parts, p)
	return id
}

// steps returns all steps of a local state, with both answers where stock or
// wallet are asked.
func (m *Model) steps(id int32) []step {
	if !m.parts[id].done {
		x := expansion{m: m, from: m.parts[id].local}
		x.expand()
		m.parts[id].steps, m.parts[id].done = slices.Clip(x.steps), true
	}
	return m.parts[id].steps
}

// expansion gathers the steps of one local state.
type expansion struct {
	m     *Model
	from  local
	steps []step
}

func (x *expansion) expand() {
	for r, c := range x.m.machines {
		for fact := x.m.kinds; fact < len(x.m.facts); fact++ {
			if c.on[0][fact].known {
				x.handle(move{act: Ask, service: uint8(r), fact: uint8(fact)}, x.from)
			}
		}
		for s := range x.m.machines {
			if x.m.reads[r][s] {
				x.read(r, s)
			}
		}
		x.resend(r)
	}
}

// read makes the steps of one reader on the log of one source.
func (x *expansion) read(r, s int) {
	log, at := &x.from.logs[s], x.from.pos[r][s]
	for _, rec := range log.records[:at] {
		if x.m.machines[r].on[0][rec.kind].known {
			x.deliver(about(Redeliver, r, s, rec))
		}
	}
	if at < log.n {
		rec := log.records[at]
		x.deliver(about(Deliver, r, s, rec))
		x.deliver(about(CrashAfter, r, s, rec))
		x.add(step{move: about(CrashBefore, r, s, rec)}, &x.from)
	}
}

func about(act Act, r, s int, rec record) move {
	return move{act, uint8(r), uint8(s), rec.kind, rec.seq}
}

// deliver makes the steps of a record that comes to a reader, through its inbox.
func (x *expansion) deliver(v move) {
	moved := x.from
	pos, last := &moved.pos[v.service][v.source], &moved.last[v.service][v.source]
	old := *last
	*last = max(old, v.number)
	if v.act == Deliver {
		*pos++
	}
	switch {
	case x.m.cfg.NoInbox || v.number == old+1:
		x.handle(v, moved)
	case v.number > old+1:
		x.fail(v, fmt.Sprintf("%s misses a record before it", x.m.machines[v.service].name))
	default: // dropped
		x.add(step{move: v}, &moved)
	}
}

// handle makes the steps of a fact that comes to a machine: one, or one for each
// answer. Moved is the state with the reader's progress.
func (x *expansion) handle(v move, moved local) {
	c := &x.m.machines[v.service]
	state := moved.state[v.service]
	r := c.on[state][v.fact]
	if r.fault {
		x.fail(v, fmt.Sprintf("%s parks it in state %q", c.name, c.states[state]))
		return
	}
	s := step{move: v, granted: true}
	if r.asks {
		s.asks = stock
		if r.granted.books == authorize {
			s.asks = wallet
		}
		refused := s
		refused.granted = false
		x.apply(refused, moved, r.refused)
	}
	x.apply(s, moved, r.granted)
}

// apply changes the row, the ledger and the log of a service together.
func (x *expansion) apply(s step, to local, res result) {
	name := x.m.machines[s.service].name
	to.state[s.service] = res.to
	if res.books != none {
		to.booked[res.books]++
	}
	if res.emits != 0 && !to.logs[s.service].append(res.emits) {
		x.fail(s.move, name+" goes on publishing for ever")
		return
	}
	answer := strings.HasPrefix(x.m.facts[s.fact], provided)
	if s.act == Ask && res.emits == 0 && x.from.logs[s.service].seq == 1 && x.m.facts[s.fact] != Place && !answer {
		x.fail(s.move, fmt.Sprintf("%s leaves an undecided order undecided on a %s", name, x.m.facts[s.fact]))
		return
	}
	if to != x.from && rank(&to)+int(s.dup()+s.crash()) <= rank(&x.from) && !answer {
		x.fail(s.move, name+" changes the order and tells nobody, which may go on for ever")
		return
	}
	x.add(s, &to)
}

// append adds the next event; false: the log is full.
func (g *log) append(kind uint8) bool {
	if g.n == maxLog {
		return false
	}
	g.seq++
	g.records[g.n] = record{g.seq, kind}
	g.n++
	return true
}

func (x *expansion) resend(s int) {
	to := x.from
	g := &to.logs[s]
	if g.n == 0 || g.n == maxLog {
		return
	}
	last := g.records[g.n-1]
	g.records[g.n] = last
	g.n++
	x.add(step{move: about(Resend, s, s, last)}, &to)
}

// fail leads to a state of its own, which is reported when it is visited.
func (x *expansion) fail(v move, why string) {
	x.m.parts = append(x.m.parts, part{bad: why, done: true})
	x.steps = append(x.steps, step{move: v, to: int32(len(x.m.parts) - 1), granted: true})
}

func (x *expansion) add(s step, to *local) {
	x.m.pass(to)
	s.to = x.m.id(to)
	x.steps = append(x.steps, s)
}

// pass moves readers over records that they have no reaction on. Only their
// inbox sees those, so when they do makes no difference to anything.
func (m *Model) pass(l *local) {
	for r := range m.machines {
		for s := range m.machines {
			for p := &l.pos[r][s]; m.reads[r][s] && *p < l.logs[s].n; *p++ {
				rec := l.logs[s].records[*p]
				if m.machines[r].on[0][rec.kind].known || rec.seq > l.last[r][s]+1 {
					break
				}
				l.last[r][s] = max(l.last[r][s], rec.seq)
			}
		}
	}
}

// rank grows with every step that changes anything, an answer of the provider that
// only the charge takes note of aside, so no schedule goes in circles, and one that only has faults left ends.
func rank(l *local) (n int) {
	for s := range l.logs {
		n += int(l.logs[s].n)
		for r := range l.pos {
			n += int(l.pos[r][s]) + int(l.last[r][s])
		}
	}
	return n
}
