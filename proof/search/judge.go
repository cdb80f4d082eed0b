package search

import (
	"fmt"
	"slices"
	"strings"
)

// judge says which promise one order's state breaks; empty: none. What several
// orders can only break together is judged in world.go.
func (m *Model) judge(l *local, quiet bool) string {
	if why := ledgers(l); why != "" {
		return why
	}
	if why := m.pivot(l); why != "" {
		return why
	}
	if quiet {
		return m.end(l)
	}
	return ""
}

// ledgers is what the constraints of the two ledgers refuse: an entry twice
// (stock_ledger_once, transfers_once), one that settles nothing
// (stock_ledger_settles, transfers_settle), one thing settled both ways
// (stock_ledger_settled_once, transfers_settled_once).
func ledgers(l *local) string {
	for kind, n := range l.booked {
		if n > 1 {
			return fmt.Sprintf("the ledger refuses a second %s", bookings()[kind])
		}
	}
	for _, b := range [][3]booking{{reserve, ship, release}, {authorize, capture, void}} {
		settled := l.booked[b[1]] + l.booked[b[2]]
		if settled > l.booked[b[0]] {
			return fmt.Sprintf("the ledger refuses a %s or %s of what is not there", bookings()[b[1]], bookings()[b[2]])
		}
	}
	return ""
}

// pivot holds what may only come after the order is decided, or refused.
func (m *Model) pivot(l *local) string {
	told := m.told(l)
	for _, rule := range []struct {
		entry booking
		after []string
	}{
		{capture, []string{"order.confirmed.v1"}},
		{ship, []string{"order.confirmed.v1"}},
		{void, []string{"order.cancelled.v1"}},
		{release, []string{"order.cancelled.v1", "payment.declined.v1"}},
		{authorize, []string{"inventory.reserved.v1"}},
	} {
		due := false
		for _, kind := range rule.after {
			due = due || told[kind] > 0
		}
		if l.booked[rule.entry] > 0 && !due {
			return fmt.Sprintf("%s before %s", bookings()[rule.entry], strings.Join(rule.after, " or "))
		}
	}
	if told["order.confirmed.v1"] > 0 && told["order.cancelled.v1"] > 0 {
		return "confirmed and cancelled"
	}
	return ""
}

// end is what must hold once everybody has heard everything. The deadline is not
// needed for it: without an outage no order waits for that.
func (m *Model) end(l *local) string {
	told, b := m.told(l), l.booked
	order := m.machines[0].states[l.state[0]]
	switch {
	case told["order.confirmed.v1"] == 1:
		if b[capture] != 1 || b[ship] != 1 {
			return fmt.Sprintf("it is over, confirmed with %d captures and %d shipments", b[capture], b[ship])
		}
	case told["order.cancelled.v1"] == 1:
		if b[reserve] != b[release] || b[authorize] != b[void] || b[capture]+b[ship] > 0 {
			return fmt.Sprintf("it is over, cancelled with %d of %d reservations released, %d of %d authorisations voided",
				b[release], b[reserve], b[void], b[authorize])
		}
	default:
		return fmt.Sprintf("it is over, and the order is %s", order)
	}
	for _, effect := range []struct {
		entry booking
		word  string
	}{{capture, "captured"}, {ship, "shipped"}, {void, "voided"}, {release, "released"}} {
		if (b[effect.entry] > 0) != strings.Contains(order, " "+effect.word) {
			return fmt.Sprintf("it is over, and the order is noted as %q after %d %s", order, b[effect.entry], bookings()[effect.entry])
		}
	}
	for i, service := range m.machines {
		if state := service.states[l.state[i]]; unfinished(state) {
			return fmt.Sprintf("it is over, and %s is still %q", service.name, state)
		}
		if strings.HasSuffix(service.states[l.state[i]], ", held)") {
			return fmt.Sprintf("it is over, and %s leaves money held at the provider: %q", service.name, service.states[l.state[i]])
		}
	}
	return ""
}

// unfinished is whether a service waits for something in a state.
func unfinished(state string) bool {
	first, _, _ := strings.Cut(state, " ")
	return slices.Contains([]string{"waiting", "new", "authorizing", "capturing", "voiding"}, first)
}

// told counts the events of each kind, copies not counted.
func (m *Model) told(l *local) map[string]int {
	counts := map[string]int{}
	for _, g := range l.logs {
		for i, rec := range g.records[:g.n] {
			if i == 0 || rec.seq > g.records[i-1].seq {
				counts[m.facts[rec.kind]]++
			}
		}
	}
	return counts
}

// asking is whether the provider has something left to answer.
func (m *Model) asking(l *local) bool {
	for r, c := range m.machines {
		state := l.state[r]
		for fact := m.kinds; fact < len(m.facts); fact++ {
			on := c.on[state][fact]
			if strings.HasPrefix(m.facts[fact], provided) && on.known && on.granted.to != state {
				return true
			}
		}
	}
	return false
}

func (m *Model) isQuiet(l *local) bool {
	if m.asking(l) {
		return false
	}
	for r := range m.machines {
		for s := range m.machines {
			if m.reads[r][s] && l.pos[r][s] < l.logs[s].n {
				return false
			}
		}
	}
	return l.logs[0].n > 0
}
