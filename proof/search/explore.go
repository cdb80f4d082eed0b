package search

import (
	"fmt"
	"reflect"
)

// Code is a service's functions about one order, as [Explore] calls them. S is
// everything that the service remembers of the order.
type Code[S any] struct {
	Service string
	Start   S
	Facts   []string // all that it hears, in the order of the table
	Name    func(S) string
	// Take is what becomes of s by a fact. Grants is what stock or wallet answer
	// if they are asked.
	Take func(s S, fact string, grants bool) (S, Outcome)
}

// Outcome is what a fact led to besides the next state.
type Outcome struct {
	Asked bool   // stock or wallet were asked
	Books string // the entry booked; empty: none
	Emits string // the kind of the event told; empty: none
	Fault bool   // a permanent fault: the order stays as it was
}

// Explore calls the functions on every state that they lead to, from the first
// on, with every fact and every answer, and returns what they did as a table.
func Explore[S any](c Code[S]) (Machine, error) {
	m := Machine{Service: c.Service}
	known := map[string]S{c.Name(c.Start): c.Start}
	for queue := []S{c.Start}; len(queue) > 0; queue = queue[1:] {
		from := queue[0]
		s := State{Name: c.Name(from), Rows: []Row{}, Ignores: []string{}, Faults: []string{}}
		for _, fact := range c.Facts {
			for _, to := range take(c, &s, from, fact) {
				name := c.Name(to)
				if before, ok := known[name]; !ok {
					known[name], queue = to, append(queue, to)
				} else if !reflect.DeepEqual(before, to) {
					return m, fmt.Errorf("%s: two states are named %q: %+v and %+v", c.Service, name, before, to)
				}
			}
		}
		m.States = append(m.States, s)
	}
	return m, nil
}

// take adds what a fact does to s, which is from, and returns the states that
// it leads to.
func take[S any](c Code[S], s *State, from S, fact string) []S {
	to, out := c.Take(from, fact, true)
	row := Row{On: fact, To: c.Name(to), Books: out.Books, Emits: out.Emits}
	switch {
	case out.Fault:
		s.Faults = append(s.Faults, fact)
		return nil
	case out.Asked:
		other, refused := c.Take(from, fact, false)
		row.If = Granted
		s.Rows = append(s.Rows, row, Row{On: fact, If: Refused, To: c.Name(other), Books: refused.Books, Emits: refused.Emits})
		return []S{to, other}
	case row.To == s.Name && out == (Outcome{}):
		s.Ignores = append(s.Ignores, fact)
	default:
		s.Rows = append(s.Rows, row)
	}
	return []S{to}
}
