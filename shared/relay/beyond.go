package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"pavane/shared/broker"
)

// How much of a partition's log is looked through, at most: so many fetches of
// so many bytes from the acknowledged end on, and as many again of the last
// records. What is looked for, a batch of our own, lies at once behind the end,
// unless others write there; if so, the latest lies among the last records.
const (
	lookBytes   = 1 << 20
	lookFetches = 8
	lookLast    = 10_000 // records
)

// beyond is a batch in the log that the journal has not planned.
type beyond struct {
	topic     string
	partition int32
	broker.Written
}

// compareOnce compares the log with the journal once in each incarnation of the
// server, and once more before this relay plans behind a head that was open
// then: rows of its end can be ones that were parked, and hide as many of what
// came after.
func (r *Relay) compareOnce(ctx context.Context) error {
	open := !r.head.acked && r.unacked == nil
	if r.compared && (open || r.head.number != r.doubted) {
		return nil
	}
	if err := r.compare(ctx); err != nil {
		return err
	}
	r.compared, r.doubted = true, 0
	if open {
		r.doubted = r.head.number
	}
	return nil
}

// compare refuses a database that Kafka is ahead of: one that was set back in
// time. The broker has taken the next sequence numbers already, and would take
// new rows under them for copies of what the database does not know any more.
func (r *Relay) compare(ctx context.Context) error {
	found, err := r.beyond(ctx, r.head)
	if err != nil || len(found) == 0 {
		return err
	}
	// Another relay may have gone on since the head was read. All that is in the
	// log was planned before.
	head, err := loadHead(ctx, r.cfg.DB)
	if err != nil {
		return err
	}
	for _, f := range found {
		if !head.planned(f.topic, f.partition, f.Written) {
			return head.setBack(f)
		}
	}
	return nil
}

// beyond looks in all partitions of the journal's topics, as far as rows go there
// now, for batches that the head, and what came before, does not explain.
func (r *Relay) beyond(ctx context.Context, head *chunk) (found []beyond, err error) {
	ends := head.endsAfter()
	var topics []string
	for tp := range ends {
		topics = append(topics, topicOf(tp))
	}
	for tp := range head.first {
		topics = append(topics, topicOf(tp))
	}
	topics = r.current(topics)
	if len(topics) == 0 {
		return nil, nil
	}
	logs, err := r.cfg.Publisher.Offsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	for _, topic := range slices.Sorted(maps.Keys(logs)) {
		for partition, log := range logs[topic] {
			// From the acknowledged end's own batch on: a new epoch can have put
			// another one there.
			at := broker.Position{Topic: topic, Partition: int32(partition), Offset: max(ends[place(topic, int32(partition))]-1, log.First)}
			more, err := r.beyondIn(ctx, head, at, log.End)
			if errors.Is(err, broker.ErrForbidden) {
				err = fmt.Errorf("a relay must be allowed to read the topics that it writes: %w", err)
			}
			if err != nil {
				return nil, fmt.Errorf("relay: is Kafka ahead of the database: %w", err)
			}
			found = append(found, more...)
		}
	}
	return found, nil
}

// beyondIn looks through one partition's log from a position to its end.
func (r *Relay) beyondIn(ctx context.Context, head *chunk, at broker.Position, end int64) (found []beyond, err error) {
	for _, from := range []int64{at.Offset, end - lookLast} {
		at.Offset = max(at.Offset, from)
		for n := 0; n < lookFetches && at.Offset < end; n++ {
			batches, next, err := r.cfg.Publisher.Batches(ctx, at, lookBytes)
			if err != nil {
				return nil, err
			}
			if next == at.Offset {
				return nil, fmt.Errorf("fetch %s: %w: nothing came, and the log ends at %d", at, broker.ErrUnavailable, end)
			}
			for _, b := range batches {
				if !head.planned(at.Topic, at.Partition, b) {
					found = append(found, beyond{at.Topic, at.Partition, b})
				}
			}
			at.Offset = next
		}
	}
	return found, nil
}

// planned tells whether the journal, whose head is c, has planned a batch, or it
// is none of ours. Sequence numbers count on from 2^31-1 to 0; what is less than
// half of that behind the next one is before it.
func (c *chunk) planned(topic string, partition int32, b broker.Written) bool {
	if c.number == 0 || b.Producer.ID != c.producer.ID || b.Sequence < 0 {
		return true
	}
	if b.Producer.Epoch != c.producer.Epoch {
		return b.Producer.Epoch < c.producer.Epoch
	}
	over := broker.NextSequence(broker.NextSequence(b.Sequence, b.Len), -int(c.nextSequence(place(topic, partition))))
	return over == 0 || over > math.MaxInt32/2
}

// nextSequence is the number of a partition's first record behind the chunk.
func (c *chunk) nextSequence(tp string) int32 { return broker.NextSequence(c.first[tp], c.counts[tp]) }

// setBack is the refusal of a database that does not know f.
func (c *chunk) setBack(f beyond) error {
	ours := broker.Position{Topic: f.topic, Partition: f.partition, Offset: f.Offset}
	knows := "has planned up to sequence number " + strconv.Itoa(int(broker.NextSequence(c.nextSequence(place(f.topic, f.partition)), -1)))
	if f.Producer.Epoch != c.producer.Epoch {
		knows = "is at epoch " + strconv.Itoa(int(c.producer.Epoch))
	}
	return fmt.Errorf("%w: Kafka is ahead of the database: at %s lie %d records of this outbox (producer %d, epoch %d, sequence numbers from %d on) that its journal does not know, which %s; "+
		"the database was restored to an earlier time, or a standby took over without the last commits; "+
		"stop the service, compare log and databases with pavane audit, settle what differs, then run pavane outbox adopt SERVICE",
		ErrRefuse, ours, f.Len, f.Producer.ID, f.Producer.Epoch, f.Sequence, knows)
}
