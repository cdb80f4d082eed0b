// Package catalog owns the saga as a whole, put together from the tables of
// reactions of all services: the map and the catalogue in docs/saga.md, the
// AsyncAPI document, the JSON Schemas of the events, and the checks that only
// the whole shows. Each service's saga.go stays the only place where its part is
// written down.
package catalog

import (
	"fmt"
	"slices"
)

// Catalogue is the saga: who does what on which event.
type Catalogue struct {
	Services []Service // by name
	Events   []Event   // in the order of contract.All
}

// Service is one service's table of reactions.
type Service struct {
	Name string
	Rows []Row
}

// Row is one line of a table: on an event, or for an origin, a service may emit.
type Row struct {
	On      string   // the kind it reads; empty for an origin
	Origin  string   // in words, what starts it when no event does
	Emits   []string // the kinds it may emit
	Handler string   // the method that does it; empty for an origin
	File    string   // where the method is, from the root of the repository
}

// Event is what the contract says of a kind.
type Event struct {
	Kind    string
	Type    string // the Go type in shared/contract
	Topic   string
	Doc     string // the comment of the type, as one line
	Failure bool   // a refusal that somebody must compensate for
	Undoes  string // the kind it takes back; empty for most
	Schema  object // JSON Schema of its data
}

// Publishers returns the services that may emit a kind, by name.
func (c Catalogue) Publishers(kind string) []string {
	var names []string
	for _, s := range c.Services {
		for _, r := range s.Rows {
			if slices.Contains(r.Emits, kind) {
				names = append(names, s.Name)
				break
			}
		}
	}
	return names
}

// step is a row with the service it belongs to.
type step struct {
	service string
	Row
}

// readers returns the rows that read a kind.
func (c Catalogue) readers(kind string) []step {
	return c.steps(func(r Row) bool { return r.On == kind })
}

// emitters returns the rows that may emit a kind.
func (c Catalogue) emitters(kind string) []step {
	return c.steps(func(r Row) bool { return slices.Contains(r.Emits, kind) })
}

func (c Catalogue) steps(want func(Row) bool) []step {
	var found []step
	for _, s := range c.Services {
		for _, r := range s.Rows {
			if want(r) {
				found = append(found, step{s.Name, r})
			}
		}
	}
	return found
}

func (c Catalogue) event(kind string) (Event, bool) {
	for _, e := range c.Events {
		if e.Kind == kind {
			return e, true
		}
	}
	return Event{}, false
}

// cause says what a row runs on.
func (r Row) cause() string {
	if r.On != "" {
		return r.On
	}
	return fmt.Sprintf("%q", r.Origin)
}
