package catalog

import (
	"fmt"
	"slices"
	"strings"
)

// deadlineWord marks an origin that fires by itself when nothing else happens.
const deadlineWord = "deadline"

// Check returns everything in the saga that only the whole shows to be wrong: a
// refusal that nobody makes good, an event without a reader or a publisher, a
// saga or a cycle that could wait for ever. Each problem says what to do.
func (c Catalogue) Check() []string {
	var problems []string
	for _, e := range c.Events {
		problems = append(problems, c.checkEvent(e)...)
	}
	problems = append(problems, c.checkTables()...)
	problems = append(problems, c.checkTopics()...)
	problems = append(problems, c.checkOrigins()...)
	return append(problems, c.checkCycles()...)
}

func (c Catalogue) checkEvent(e Event) []string {
	var problems []string
	publishers := c.Publishers(e.Kind)
	switch len(publishers) {
	case 0:
		problems = append(problems, fmt.Sprintf("%s: no service emits it; declare it in a saga.go, or take it out of the contract", e.Kind))
	case 1:
	default:
		problems = append(problems, fmt.Sprintf("%s: emitted by %s; an event has one publisher", e.Kind, strings.Join(publishers, " and ")))
	}
	if len(c.readers(e.Kind)) == 0 {
		problems = append(problems, fmt.Sprintf("%s: no service reads it; add a reaction, or take it out of the contract", e.Kind))
	}
	if e.Failure && !c.compensated(e.Kind) {
		problems = append(problems, fmt.Sprintf("%s tells of a failure, and no reaction on it emits an event that takes something back; "+
			"add the compensation", e.Kind))
	}
	if e.Undoes != "" && !slices.Equal(c.Publishers(e.Undoes), publishers) {
		problems = append(problems, fmt.Sprintf("%s undoes %s, which %s emits; a service takes back what it did itself",
			e.Kind, e.Undoes, strings.Join(c.Publishers(e.Undoes), " and ")))
	}
	if e.Failure && e.Undoes != "" {
		problems = append(problems, c.checkEnd(e)...)
	}
	return problems
}

// checkEnd looks at a failure that takes the whole saga back, such as
// order.cancelled: it can come at any time, so on it everybody who can take
// something back must do so.
func (c Catalogue) checkEnd(end Event) []string {
	var problems []string
	for _, e := range c.Events {
		if e.Undoes == "" || e.Kind == end.Kind {
			continue
		}
		if !slices.ContainsFunc(c.readers(end.Kind), func(r step) bool { return slices.Contains(r.Emits, e.Kind) }) {
			problems = append(problems, fmt.Sprintf("%s ends the saga, and no reaction on it emits %s: what %s did would stay",
				end.Kind, e.Kind, e.Undoes))
		}
	}
	return problems
}

// compensated is whether some reaction on the kind takes something back.
func (c Catalogue) compensated(kind string) bool {
	for _, r := range c.readers(kind) {
		for _, emitted := range r.Emits {
			if e, ok := c.event(emitted); ok && e.Undoes != "" {
				return true
			}
		}
	}
	return false
}

// checkTables looks at the rows: kinds that exist and are published, one
// reaction per kind and service.
func (c Catalogue) checkTables() []string {
	var problems []string
	for _, s := range c.Services {
		seen := map[string]bool{}
		for _, r := range s.Rows {
			for _, kind := range r.Emits {
				if _, ok := c.event(kind); !ok {
					problems = append(problems, fmt.Sprintf("%s emits %s, which the contract does not have", s.Name, kind))
				}
			}
			if r.On == "" {
				continue
			}
			if seen[r.On] {
				problems = append(problems, fmt.Sprintf("%s has two reactions on %s; a service has one", s.Name, r.On))
			}
			seen[r.On] = true
			if len(c.Publishers(r.On)) == 0 {
				problems = append(problems, fmt.Sprintf("%s reads %s, which no service emits", s.Name, r.On))
			}
		}
	}
	return problems
}

// checkTopics demands one publisher per topic: sequence numbers are dense per
// source, and access rights are given per topic.
func (c Catalogue) checkTopics() []string {
	writers := map[string][]string{}
	var topics []string
	for _, e := range c.Events {
		if !slices.Contains(topics, e.Topic) {
			topics = append(topics, e.Topic)
		}
		for _, p := range c.Publishers(e.Kind) {
			if !slices.Contains(writers[e.Topic], p) {
				writers[e.Topic] = append(writers[e.Topic], p)
			}
		}
	}
	var problems []string
	for _, topic := range topics {
		if len(writers[topic]) > 1 {
			problems = append(problems, fmt.Sprintf("topic %s is written by %s; a topic has one publisher", topic, strings.Join(writers[topic], " and ")))
		}
	}
	return problems
}

// checkOrigins demands a deadline of every service that starts a saga: peers may
// never answer.
func (c Catalogue) checkOrigins() []string {
	var problems []string
	for _, s := range c.Services {
		for _, r := range s.Rows {
			if r.Origin == "" || strings.Contains(r.Origin, deadlineWord) {
				continue
			}
			for _, kind := range r.Emits {
				if e, _ := c.event(kind); !e.Failure && !c.hasDeadline(s) {
					problems = append(problems, fmt.Sprintf("%s starts a saga with %s and has no deadline: add react.Origin(\"deadline …\", a failure event)", s.Name, kind))
				}
			}
		}
	}
	return problems
}

// hasDeadline is whether the service gives up by itself after a while.
func (c Catalogue) hasDeadline(s Service) bool {
	for _, r := range s.Rows {
		if r.Origin == "" || !strings.Contains(r.Origin, deadlineWord) {
			continue
		}
		for _, kind := range r.Emits {
			if e, _ := c.event(kind); e.Failure {
				return true
			}
		}
	}
	return false
}

// checkCycles finds events that lead back to themselves. A service on the cycle
// must be able to end it.
func (c Catalogue) checkCycles() []string {
	var problems []string
	reported := map[string]bool{}
	for _, e := range c.Events {
		cycle := c.pathBack(e.Kind)
		if cycle == nil || reported[e.Kind] {
			continue
		}
		ended := false
		for _, kind := range cycle {
			reported[kind] = true
			for _, r := range c.readers(kind) {
				ended = ended || c.hasDeadline(c.service(r.service))
			}
		}
		if !ended {
			problems = append(problems, fmt.Sprintf("%s → %s goes round for ever: no service on the way has a deadline", strings.Join(cycle, " → "), e.Kind))
		}
	}
	return problems
}

// pathBack returns the kinds on a shortest way from a kind to itself, or nil.
func (c Catalogue) pathBack(start string) []string {
	paths := [][]string{{start}}
	seen := map[string]bool{}
	for len(paths) > 0 {
		path := paths[0]
		paths = paths[1:]
		for _, r := range c.readers(path[len(path)-1]) {
			for _, next := range r.Emits {
				if next == start {
					return path
				}
				if !seen[next] {
					seen[next] = true
					paths = append(paths, append(slices.Clone(path), next))
				}
			}
		}
	}
	return nil
}

func (c Catalogue) service(name string) Service {
	for _, s := range c.Services {
		if s.Name == name {
			return s
		}
	}
	return Service{}
}
