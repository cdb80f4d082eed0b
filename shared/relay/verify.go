package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// verifyEvery is how often the log is compared with the journal where nothing is
// sent: a loss shows there by itself only with the partition's next record.
const verifyEvery = 5 * time.Second

// verify heals, when it is due, the partitions whose log ends before what the
// journal holds as acknowledged. A chunk on its way finds out by itself.
func (r *Relay) verify(ctx context.Context) error {
	if r.verified.IsZero() {
		r.verified = time.Now() // not at the start: what is sent is compared as it goes
	}
	if r.head == nil || time.Since(r.verified) < verifyEvery {
		return nil
	}
	if err := r.ackNow(ctx); err != nil {
		return err
	}
	if r.head == nil || !r.head.acked {
		return nil
	}
	want := r.head.endsAfter()
	found, err := r.logEnds(ctx, want)
	if err != nil {
		return r.unanswered(err)
	}
	r.unheard = 0
	for _, tp := range slices.Sorted(maps.Keys(want)) {
		if !r.isCurrent(topicOf(tp)) || found[tp] >= want[tp] {
			continue
		}
		err := r.heal(ctx, tp, nil, fmt.Errorf("the log ends at %d, acknowledged was all before %d", found[tp], want[tp]))
		if err != nil && !errors.Is(err, errOvertaken) {
			return err
		}
	}
	r.verified = time.Now()
	return nil
}

// unanswered puts the next comparison off, and lets the first of several faults in
// a row show, then every tenth. Where nothing is to be sent, nobody waits for Kafka.
func (r *Relay) unanswered(err error) error {
	r.verified = time.Now()
	if r.unheard++; r.unheard%10 == 1 {
		return err
	}
	return nil
}

// logEnds asks where the logs of these partitions end, as far as rows go to their
// topics now. It has no answer for others, whose topic may be gone.
func (r *Relay) logEnds(ctx context.Context, of map[string]int64) (map[string]int64, error) {
	var topics []string
	for tp := range of {
		topics = append(topics, topicOf(tp))
	}
	if topics = r.current(topics); len(topics) == 0 {
		return nil, nil
	}
	ranges, err := r.cfg.Publisher.Offsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	ends := make(map[string]int64, len(of))
	for topic, partitions := range ranges {
		for number, log := range partitions {
			ends[place(topic, int32(number))] = log.End
		}
	}
	return ends, nil
}

func (r *Relay) logEnd(ctx context.Context, tp string) (int64, error) {
	ends, err := r.logEnds(ctx, map[string]int64{tp: 0})
	return ends[tp], err
}
