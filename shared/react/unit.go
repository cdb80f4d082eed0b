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
	bad     error // why it is not an event that belongs here
	cause   inbox.Cause
	verdict *verdict // what is to become of it instead of running its handler
}

// verdict says how a record is parked whose handler failed.
type verdict struct {
	inbox.Parked // Cause, Reason, Attempts and RetryIn
}

func (i *item) id() inbox.ID { return inbox.ID{Source: i.env.Source, Key: i.env.Key} }

// item decodes a record. One that the tables could not hold counts as
// undecodable too.
func (c *Consumer) item(rec broker.Record) item {
	env, err := event.Decode(rec.Key, rec.Headers, rec.Value)
	it := item{rec: rec, env: env}
	switch {
	case err != nil:
		it.refuse(inbox.Undecodable, err)
	case !it.id().Valid():
		it.refuse(inbox.Undecodable, fmt.Errorf("ce_source %.40q, key %.40q: want UTF-8 without NUL, 2,000 bytes at most", env.Source, env.Key))
	default:
		if err := c.foreign(rec, &env); err != nil {
			it.refuse(inbox.Foreign, err)
		}
	}
	return it
}

func (i *item) refuse(cause inbox.Cause, why error) {
	i.bad, i.cause, i.env = why, cause, event.Envelope{}
}

// foreign tells why an event does not belong where it lies, or nothing.
func (c *Consumer) foreign(rec broker.Record, env *event.Envelope) error {
	if owner, ok := c.cfg.Sources[rec.Topic]; ok && env.Source != owner {
		return fmt.Errorf("ce_source %.40q: only %s publishes on %s", env.Source, owner, rec.Topic)
	}
	if topic, err := c.cfg.Kinds.Of(env.Kind); err == nil && topic != rec.Topic {
		return fmt.Errorf("ce_type %.80q: such events go to %s, not to %s", env.Kind, topic, rec.Topic)
	}
	return nil
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

// cut makes units of at most BatchSize records of a fetch. The last one takes
// along the partitions that moved on without a record.
func (c *Consumer) cut(f broker.Fetched, at []broker.Position) []unit {
	var units []unit
	for rest := f.Records; len(rest) > 0; {
		n := min(c.cfg.BatchSize, len(rest))
		u := unit{items: make([]item, n)}
		for i, rec := range rest[:n] {
			u.items[i] = c.item(rec)
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
