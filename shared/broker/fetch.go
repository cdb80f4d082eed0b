package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go/protocol"
)

// Position is an offset in a partition: of the next record to read.
type Position struct {
	Topic     string
	Partition int32
	Offset    int64
}

// String is topic/partition@offset.
func (p Position) String() string {
	return p.Topic + "/" + strconv.Itoa(int(p.Partition)) + "@" + strconv.FormatInt(p.Offset, 10)
}

// Fetched is what a fetch brought.
type Fetched struct {
	// Records of one partition lie together, in the order of their offsets.
	Records []Record
	// Next is where to read on, one entry for each position asked for and in
	// the same order. It may be ahead of the last record: transaction markers
	// take offsets too.
	Next []Position
	// End is the offset after the last readable record (the high watermark) of
	// each position, -1 where this fetch did not learn it.
	End []int64
}

// Fetch reads the partitions from the positions on, each partition at most
// once. It returns as soon as one has records, or empty after maxWait (0: at
// once). maxBytes bounds the answer of each leader; a first batch larger than
// that comes whole.
//
// Some partitions may fail while others bring records: then both the records
// and the error are returned. The error of an offset outside the log is
// ErrOffsetRange; the position is not moved.
func (c *Client) Fetch(ctx context.Context, positions []Position, maxWait time.Duration, maxBytes int) (Fetched, error) {
	f := Fetched{Next: slices.Clone(positions), End: make([]int64, len(positions))}
	for i := range f.End {
		f.End[i] = -1
	}
	if len(positions) == 0 {
		return f, c.idle(ctx, maxWait)
	}
	plans, err := c.plan(ctx, positions)
	parts, failed := c.fetchAll(ctx, plans, maxWait, maxBytes)
	errs := []error{err, failed}
	rd := batchReader{}
	for _, p := range parts {
		i := slices.IndexFunc(positions, func(at Position) bool { return at.Partition == p.partition && at.Topic == p.topic })
		if i < 0 {
			continue
		}
		next, err := c.take(ctx, &rd, positions[i], p)
		f.Next[i].Offset = next
		if p.code == 0 {
			f.End[i] = p.end
		}
		errs = append(errs, err)
	}
	f.Records = rd.records
	return f, errors.Join(errs...)
}

// idle is the fetch of a group member that has no partition.
func (c *Client) idle(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return unavailable("fetch", ctx.Err())
	case <-c.ctx.Done():
		return unavailable("fetch", errClosed)
	case <-timer.C:
		return nil
	}
}

// take reads the records of one partition, or finds the words for its error.
func (c *Client) take(ctx context.Context, rd *batchReader, at Position, p fetchedPartition) (next int64, err error) {
	if p.code == codeOffsetOutOfRange {
		held := "the log's range is not known now"
		if all, err := c.Offsets(ctx, at.Topic); err == nil && int(at.Partition) < len(all[at.Topic]) {
			r := all[at.Topic][at.Partition]
			held = fmt.Sprintf("the log holds %d to before %d", r.First, r.End)
		}
		return at.Offset, fmt.Errorf("fetch %s: %w: %s", at, ErrOffsetRange, held)
	}
	if p.code != 0 {
		return at.Offset, answered("fetch "+at.String(), p.code, "")
	}
	next, err = rd.read(at, p.records)
	if err == nil && next == at.Offset && len(p.records) > 0 {
		err = fmt.Errorf("%d bytes without a batch from there on: %w", len(p.records), errShort)
	}
	if err != nil {
		return next, unavailable("fetch "+at.String(), err)
	}
	return next, nil
}

// fetchPlan is what one fetch asks of one leader.
type fetchPlan struct {
	leader    int32
	positions []Position
}

// plan groups the positions by leader. The error names those without one.
func (c *Client) plan(ctx context.Context, positions []Position) ([]fetchPlan, error) {
	topics := make([]string, 0, 4)
	for _, p := range positions {
		topics = appendNew(topics, p.Topic)
	}
	limited, cancel := c.limited(ctx, 0)
	defer cancel()
	known, err := c.layout(limited, topics)
	if err != nil {
		return nil, err
	}
	var plans []fetchPlan
	var errs []error
	for _, p := range positions {
		leader, err := leaderOf(known, p.Topic, p.Partition)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		i := slices.IndexFunc(plans, func(plan fetchPlan) bool { return plan.leader == leader })
		if i < 0 {
			i, plans = len(plans), append(plans, fetchPlan{leader: leader})
		}
		plans[i].positions = append(plans[i].positions, p)
	}
	return plans, errors.Join(errs...)
}

type fetchedPartition struct {
	topic     string
	partition int32
	code      int16
	end       int64
	records   []byte
}

// fetchFrom asks one leader, by a Fetch request of version 11 outside any
// fetch session.
func (c *Client) fetchFrom(ctx context.Context, plan fetchPlan, maxWait time.Duration, maxBytes int) ([]fetchedPartition, error) {
	ctx, cancel := c.limited(ctx, maxWait)
	defer cancel()
	body, err := c.send(ctx, &request{
		key: protocol.Fetch, version: 11, broker: plan.leader, chunks: [][]byte{fetchBody(plan.positions, maxWait, maxBytes)},
	})
	if err != nil {
		return nil, unavailable(fmt.Sprintf("fetch from broker %d", plan.leader), err)
	}
	return readFetched(body, plan)
}

func fetchBody(positions []Position, maxWait time.Duration, maxBytes int) []byte {
	topics := inTurn(positions)
	b := appendInt32(nil, -1) // not a replica
	b = appendInt32(b, int(maxWait.Milliseconds()))
	b = appendInt32(b, 1) // min bytes
	b = appendInt32(b, maxBytes)
	b = append(b, 0)                       // read uncommitted
	b = appendInt32(appendInt32(b, 0), -1) // no session
	b = appendInt32(b, len(topics))
	for _, of := range topics {
		b = appendInt32(appendString(b, of[0].Topic), len(of))
		for _, p := range of {
			b = appendInt32(b, int(p.Partition))
			b = appendInt32(b, -1) // any leader epoch
			b = appendInt64(b, p.Offset)
			b = appendInt64(b, -1) // a follower's log start
			b = appendInt32(b, maxBytes)
		}
	}
	b = appendInt32(b, 0)      // nothing forgotten
	return appendString(b, "") // no rack
}

// inTurn returns the positions by topic. The broker fills the answer in the order of
// the request, so that the first partitions may take all of it: which one that is is
// left to chance, and a busy one starves no other.
func inTurn(positions []Position) (topics [][]Position) {
	order := slices.Clone(positions)
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for len(order) > 0 {
		of := slices.DeleteFunc(slices.Clone(order), func(p Position) bool { return p.Topic != order[0].Topic })
		topics = append(topics, of)
		order = slices.DeleteFunc(order, func(p Position) bool { return p.Topic == of[0].Topic })
	}
	return topics
}

func readFetched(body []byte, plan fetchPlan) ([]fetchedPartition, error) {
	what := fmt.Sprintf("fetch from broker %d", plan.leader)
	d := decoder{b: body}
	_ = d.int32() // throttle
	if code := d.int16(); code != 0 {
		return nil, answered(what, code, "")
	}
	_ = d.int32() // session
	parts := make([]fetchedPartition, 0, len(plan.positions))
	for range d.count() {
		topic := d.string()
		for range d.count() {
			p := fetchedPartition{topic: topic, partition: d.int32(), code: d.int16(), end: d.int64()}
			_, _ = d.int64(), d.int64() // last stable offset, start of the log
			for range d.count() {
				_, _ = d.int64(), d.int64() // aborted transactions
			}
			_ = d.int32() // preferred replica
			p.records = d.bytes()
			parts = append(parts, p)
		}
	}
	if d.err != nil {
		return nil, unavailable(what, d.err)
	}
	return parts, nil
}
