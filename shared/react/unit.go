package react

import (
	"fmt"
	"strings"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/inbox"
)

// item is a record with what is known of it before the database is asked.
type item struct {
	rec     broker.Record
	env     event.Envelope
	bad     error    // why it is not an event
	verdict *verdict // what is to become of it instead of running its handler
}

// verdict says how a record is parked whose handler failed.
type verdict struct {
	inbox.Parked // Cause, Reason, Attempts and RetryIn
}

func (i *item) id() inbox.ID { return inbox.ID{Source: i.env.Source, Key: i.env.Key} }

// newItem decodes a record. One that the tables could not hold counts as
// undecodable too.
func newItem(rec broker.Record) item {
	env, err := event.Decode(rec.Key, rec.Headers, rec.Value)
	it := item{rec: rec, env: env, bad: err}
	if err == nil && !it.id().Valid() {
		it.bad = fmt.Errorf("ce_source %.40q, key %.40q: want UTF-8 without NUL, 2,000 bytes at most", env.Source, env.Key)
	}
	if it.bad != nil {
		it.env = event.Envelope{}
	}
	return it
}

// parked returns the row that the record becomes when it waits.
func (i *item) parked(cause inbox.Cause, reason string) inbox.Parked {
	p := inbox.Parked{
		ID: i.id(), Sequence: i.env.Sequence, Topic: i.rec.Topic, Partition: i.rec.Partition, Offset: i.rec.Offset, Kind: i.env.Kind,
		Headers: event.AppendHeaders(nil, i.rec.Headers), Payload: i.rec.Value, Reason: reason, Cause: cause,
	}
	if i.bad != nil {
		p.ID = inbox.ID{Source: i.rec.Topic, Key: string(i.rec.Key)}
	}
	return p
}

// unit is what one transaction applies: records in the order in which they
// were fetched and the offsets that hold after them.
type unit struct {
	items []item
	ends  []inbox.Offset
	part  bool // of a unit that failed
}

// cut makes units of at most size records of a fetch. The last one takes along
// the partitions that moved on without a record.
func cut(f broker.Fetched, at []broker.Position, size int) []unit {
	var units []unit
	for rest := f.Records; len(rest) > 0; {
		n := min(size, len(rest))
		u := unit{items: make([]item, n)}
		for i, rec := range rest[:n] {
			u.items[i] = newItem(rec)
		}
		u.ends = endsOf(u.items)
		units, rest = append(units, u), rest[n:]
	}
	if len(units) == 0 {
		units = append(units, unit{})
	}
	last := &units[len(units)-1]
	for i, next := range f.Next {
		if next.Offset > at[i].Offset {
			last.ends = extend(last.ends, inbox.Offset{Topic: next.Topic, Partition: next.Partition, Next: next.Offset})
		}
	}
	return units
}

// halves splits a unit of two or more records so that a faulty one is found.
func (u unit) halves() (first, second unit) {
	mid := len(u.items) / 2
	return unit{items: u.items[:mid], ends: endsOf(u.items[:mid]), part: true}, unit{items: u.items[mid:], ends: u.ends, part: true}
}

// endsOf returns the offsets after items; those of a partition lie together.
func endsOf(items []item) []inbox.Offset {
	var ends []inbox.Offset
	for i := range items {
		rec := &items[i].rec
		if n := len(ends); n > 0 && ends[n-1].Partition == rec.Partition && ends[n-1].Topic == rec.Topic {
			ends[n-1].Next = rec.Offset + 1
			continue
		}
		ends = append(ends, inbox.Offset{Topic: rec.Topic, Partition: rec.Partition, Next: rec.Offset + 1})
	}
	return ends
}

func extend(ends []inbox.Offset, o inbox.Offset) []inbox.Offset {
	for i := range ends {
		if ends[i].Partition == o.Partition && ends[i].Topic == o.Topic {
			ends[i].Next = max(ends[i].Next, o.Next)
			return ends
		}
	}
	return append(ends, o)
}

// byKey orders items for handling: a key's records in the order fetched, keys
// sorted, so that all instances lock the rows of their keys in one order.
func byKey(a, b *item) int { return strings.Compare(a.env.Key, b.env.Key) }
