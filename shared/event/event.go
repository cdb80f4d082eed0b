// Package event owns what an event is: its kind, its key, its place in the
// dense sequence of that key, and its form on the wire (CloudEvents 1.0, Kafka
// binary content mode).
package event

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Event is a fact that one service tells the others.
type Event interface {
	// Kind is the CloudEvents type: dotted words and a major version, such as
	// "order.placed.v1". It names the event on the wire and never changes.
	Kind() string
	// Key names the thing the fact is about, the order id in the demo. All
	// events of a key from one source are delivered in the order of their
	// sequence.
	Key() string
}

// Failure marks an event that tells of a refusal. The catalogue demands that
// somebody compensates for it.
type Failure interface {
	Event
	Failure()
}

// Compensation marks an event that takes another one back.
type Compensation interface {
	Event
	// Undoes returns the kind that is taken back.
	Undoes() string
}

// Numbered is an event with its place in the dense sequence 1, 2, 3 … of its
// key at its source. The number is the version of the aggregate, taken while
// its row is locked: that lock is what makes the numbers dense and their order
// the order of the commits.
type Numbered struct {
	Event    Event
	Sequence int64
	// Cause is the event whose handling tells of this one; it names that one as
	// its cause and inherits its correlation id and trace. The kit sets it on
	// what a reaction returns. Nil: this event begins a saga.
	Cause *Envelope
}

// Number gives events consecutive numbers, the first of them being first. A change
// that tells n events raises its row's version by n and passes version - n + 1. A
// number that another event of the key has already is a copy to every reader: the
// later event is dropped.
func Number(first int64, events ...Event) []Numbered {
	numbered := make([]Numbered, len(events))
	for i, e := range events {
		numbered[i] = Numbered{Event: e, Sequence: first + int64(i)}
	}
	return numbered
}

// Topics tells which topic carries a kind: the kind's first word is the key,
// the topic the value ("order" → "orders.events.v1").
type Topics map[string]string

// Of returns the topic of a kind, or an error for a kind nobody routes.
func (t Topics) Of(kind string) (string, error) {
	word, _, _ := strings.Cut(kind, ".")
	topic, ok := t[word]
	if !ok {
		return "", fmt.Errorf("event kind %q: no topic for %q; add it to the topics of the contract", kind, word)
	}
	return topic, nil
}

// SplitKind takes a kind apart into its name and its major version:
// "order.placed.v1" is "order.placed" and 1.
func SplitKind(kind string) (name string, major int, err error) {
	i := strings.LastIndex(kind, ".v")
	if i <= 0 {
		return "", 0, fmt.Errorf("event kind %q: want name.vN, such as order.placed.v1", kind)
	}
	major, err = strconv.Atoi(kind[i+2:])
	if err != nil || major < 1 || strconv.Itoa(major) != kind[i+2:] { // v01 and v+1 would be other names of v1
		return "", 0, fmt.Errorf("event kind %q: version %q is not a positive number", kind, kind[i+2:])
	}
	return kind[:i], major, nil
}

// NewID returns a new event id: a UUID of version 7, so ids sort roughly by
// time (RFC 9562).
func NewID() string {
	return uuid.Must(uuid.NewV7()).String()
}
