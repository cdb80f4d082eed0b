package relay

import (
	"fmt"
	"slices"
	"strings"
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
