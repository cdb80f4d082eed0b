package search

import (
	"fmt"
	"slices"
	"strings"
)

// Step is a move of a walk and what must be so after it.
type Step struct {
	Move
	State   string            // of the order in the service that acts
	Told    []string          // the kinds that this service has published of it, copies not counted
	Stock   map[string]Amount // of each SKU
	Wallets map[string]int    // what each customer may spend
}

// Amount is a row of the stock.
type Amount struct{ Available, Reserved, Sold int }

// Walk goes one way through the model: at most limit steps as pick says, which is
// given the number of choices, and then on without requests and faults until every
// order that was placed is over. Every state on the way is checked; a broken
// promise is a *Violation.
func (m *Model) Walk(limit int, pick func(n int) int) ([]Step, error) {
	w := m.start()
	var steps []Step
	var moves []Move
	for {
		choices := m.choices(&w, len(steps) >= limit)
		if len(choices) == 0 {
			return steps, nil
		}
		if some := kindOf(choices, pick(6)); len(some) > 0 {
			choices = some
		}
		c := choices[pick(len(choices))]
		w, moves = c.to, append(moves, c.move)
		if bad := m.check(&w); bad != "" {
			return steps, &Violation{What: bad, Schedule: moves}
		}
		steps = append(steps, m.describe(&w, c.move))
	}
}

// Follow goes the way that a violation printed, a line a move, and returns what is
// broken at its end: nil when the promises hold now.
func (m *Model) Follow(schedule []string) error {
	w := m.start()
	var v Violation
	for _, line := range schedule {
		choices := m.choices(&w, false)
		i := slices.IndexFunc(choices, func(c choice) bool { return c.move.String() == line })
		if i < 0 {
			return fmt.Errorf("search: %q cannot happen after %d steps of this schedule", line, len(v.Schedule))
		}
		v.Schedule, w = append(v.Schedule, choices[i].move), choices[i].to
		if v.What = m.check(&w); v.What != "" {
			return &v
		}
	}
	return nil
}

type choice struct {
	move Move
	to   world
}

// choices are the steps of a world; toTheEnd leaves only deliveries and answers.
func (m *Model) choices(w *world, toTheEnd bool) []choice {
	var found []choice
	m.next(w, func(s *step, order int, to world) bool {
		if !toTheEnd || s.act == Deliver || s.act == Ask && strings.HasPrefix(m.facts[s.fact], provided) && s.to != w.orders[order] {
			found = append(found, choice{m.show(s.move, order), to})
		}
		return true
	})
	return found
}

// kindOf leaves requests, deliveries (four times as likely) or faults. There are many
// more requests that change nothing than records under way; picked from all, few
// orders would get far.
func kindOf(all []choice, n int) (some []choice) {
	for _, c := range all {
		request, delivery := c.move.Act == Ask, c.move.Act == Deliver
		if n == 0 && request || n == 1 && !request && !delivery || n > 1 && delivery {
			some = append(some, c)
		}
	}
	return some
}

func (m *Model) describe(w *world, v Move) Step {
	s := Step{Move: v, Stock: map[string]Amount{}, Wallets: map[string]int{}}
	l := &m.parts[w.orders[v.Order]].local
	service := slices.IndexFunc(m.machines, func(c machine) bool { return c.name == v.Service })
	s.State = m.machines[service].states[l.state[service]]
	g := l.logs[service]
	for i, rec := range g.records[:g.n] {
		if i == 0 || rec.seq > g.records[i-1].seq {
			s.Told = append(s.Told, m.facts[rec.kind])
		}
	}
	for i, sku := range m.skus {
		a, r, sold := m.stock(w, i)
		s.Stock[sku] = Amount{a, r, sold}
	}
	for i, c := range m.customers {
		s.Wallets[c] = m.balance(w, i)
	}
	return s
}
