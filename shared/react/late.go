package react

import (
	"context"
	"log/slog"
	"slices"

	"pavane/shared/broker"
	"pavane/shared/inbox"
)

// A service that begins to read a partition whose log has lost its first records
// meets keys in the midst. Such a key begins, for this service, with the first
// record that it meets; nothing older will ever come. Where reading began is stored
// with the offset, so that all instances judge alike for as long as it is read.

// alone returns the topics whose records come nowhere else: the earlier records of
// their keys are not on another topic that is read too, such as one of a replay.
func (c *ConsumerConfig) alone() map[string]bool {
	alone := map[string]bool{}
	for _, topic := range c.Topics {
		alone[topic] = !slices.ContainsFunc(c.Topics, func(other string) bool {
			return other != topic && (c.Sources[topic] == "" || c.Sources[other] == "" || c.Sources[topic] == c.Sources[other])
		})
	}
	return alone
}

// late returns those of the partitions in which a key may begin with any number.
func (c *Consumer) late(offsets []inbox.Offset) map[partition]bool {
	late := map[partition]bool{}
	for _, o := range offsets {
		if o.First > 0 && c.alone[o.Topic] {
			late[partition{o.Topic, o.Partition}] = true
		}
	}
	return late
}

// tellLate says of partitions that were begun now which of them began late.
func (g *generation) tellLate(ctx context.Context, begun []inbox.Offset) {
	for _, o := range begun {
		at := slog.String("from", broker.Position{Topic: o.Topic, Partition: o.Partition, Offset: o.First}.String())
		switch {
		case o.First == 0:
		case g.c.alone[o.Topic]:
			g.c.cfg.Logger.WarnContext(ctx, "the log has lost its first records before this service began to read: keys begin with the first record that is left of them", at)
		default:
			g.c.cfg.Logger.WarnContext(ctx, "the log has lost its first records before this service began to read: their keys wait for them, because another topic that is read may be of the same source", at)
		}
	}
}

// at names a record's key where it lies in the log.
func (i *item) at() inbox.At {
	return inbox.At{Topic: i.rec.Topic, Partition: i.rec.Partition, Key: string(i.rec.Key)}
}

// refuse takes note of a record that has no number.
func (p *pass) refuse(at inbox.At, offset int64) {
	if lowest, ok := p.refused[at]; !ok || offset < lowest {
		p.refused[at] = offset
	}
}

// unmet tells whether a record may be the start of its key here: nothing of it was
// applied, and nothing that comes before it waits.
func (p *pass) unmet(it *item) bool {
	st := p.states[it.id()]
	return st.Last == 0 && (st.Head == 0 || it.env.Sequence < st.Head) && it.env.Sequence > 1 && p.late[partition{it.rec.Topic, it.rec.Partition}]
}

// loadRefused asks for the records without a number of keys that may begin here.
func (p *pass) loadRefused(ctx context.Context, items []*item) error {
	var topics, keys []string
	for _, it := range items {
		if it.bad == nil && p.unmet(it) {
			topics, keys = append(topics, it.rec.Topic), append(keys, string(it.rec.Key))
		}
	}
	if len(keys) == 0 {
		return nil
	}
	refused, err := inbox.Refused(ctx, p.tx, topics, keys)
	for at, offset := range refused {
		p.refuse(at, offset)
	}
	return err
}

// start has a key begin with a record in the midst: all before it counts as
// handled, whatever becomes of the record itself. A record of the key that could not
// be read and lies before it may be what it follows, so then it is judged as ever.
func (p *pass) start(it *item, st *inbox.State) {
	if !p.unmet(it) {
		return
	}
	if refused, ok := p.refused[it.at()]; ok && refused < it.rec.Offset {
		return
	}
	st.Last = it.env.Sequence - 1
	p.last[it.id()] = st.Last
	p.lateStarts++
}
