package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"pavane/shared/broker"
)

// current returns the topics that rows go to now, each once and in order.
func (r *Relay) current(topics []string) []string {
	slices.Sort(topics)
	return slices.DeleteFunc(slices.Compact(topics), func(topic string) bool { return !r.isCurrent(topic) })
}

// isCurrent tells whether rows go to the topic now.
func (r *Relay) isCurrent(topic string) bool {
	return r.cfg.Topics == nil || slices.Contains(r.cfg.Topics, topic)
}

// allCurrent refuses a chunk with rows of a topic that rows do not go to any more.
// It must not even be planned: the number of partitions can be another one now, and
// a relay with that of before would find other rows in it than were planned. Time
// can heal it, while such a relay is at work.
func (r *Relay) allCurrent(c *chunk) error {
	for tp := range c.counts {
		if topic := topicOf(tp); !r.isCurrent(topic) {
			return fmt.Errorf("the outbox holds rows for topic %s that are not published, and rows go to %s now: the topic was renamed or given up too early; "+
				"start the service with the settings of before and wait until pavane outbox status shows no backlog", topic, strings.Join(r.cfg.Topics, ", "))
		}
	}
	return nil
}

// countAhead asks Kafka for the partitions of the topics that rows go to now, so
// that its first answer, for which a connection is made, does not hold up the first
// chunk. One that it does not tell is asked for again.
func (r *Relay) countAhead(ctx context.Context) func() {
	counted := make(chan map[string][]broker.Range, 1)
	r.counted = counted
	return func() {
		defer close(counted)
		if len(r.cfg.Topics) == 0 {
			return
		}
		if logs, err := r.cfg.Publisher.Offsets(ctx, r.cfg.Topics...); err == nil {
			counted <- logs
		}
	}
}

// takeCounted takes in what was counted ahead, as far as it is as it should be.
func (r *Relay) takeCounted() {
	if r.counted == nil {
		return
	}
	for topic, logs := range <-r.counted {
		r.fit[topic] = len(logs) == r.cfg.Partitions
	}
	r.counted = nil
}

// partitionsFit refuses rows of a topic that has another number of partitions
// than this relay was made for: keys would change their place, and lose their
// order. Each topic is looked at once. Time can heal it, when the relay of before
// is started again.
func (r *Relay) partitionsFit(ctx context.Context, batches []*broker.Batch) error {
	for _, b := range batches {
		topic, _ := b.Topic()
		if r.fit[topic] || !r.isCurrent(topic) {
			continue
		}
		if r.takeCounted(); r.fit[topic] {
			continue
		}
		n, err := r.partitionsOf(ctx, topic)
		if err != nil {
			return err
		}
		if n != r.cfg.Partitions {
			return fmt.Errorf("topic %s has %d partitions and the relay was made for %d: keys would change their place; "+
				"start it with the number of the topic, or give it a topic of %[3]d", topic, n, r.cfg.Partitions)
		}
		r.fit[topic] = true
	}
	return nil
}

// partitionsOf counts a topic's partitions. Like sending, it goes on until Kafka
// answers, or has the topic.
func (r *Relay) partitionsOf(ctx context.Context, topic string) (int, error) {
	var pause backoff
	for {
		logs, err := r.cfg.Publisher.Offsets(ctx, topic)
		if err == nil {
			return len(logs[topic]), nil
		}
		if pause.first() {
			r.cfg.Logger.Warn("relay cannot publish and tries again", "topic", topic, "error", err.Error())
		}
		if err := pause.wait(ctx); err != nil {
			return 0, err
		}
	}
}
