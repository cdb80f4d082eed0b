package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// Result is the broker's answer to one batch.
type Result struct {
	// Offset of the first record. -1 when the broker recognised a duplicate but
	// no longer knows where it lies.
	Offset int64
	Err    error // nil: the batch is in the log, once, on all in-sync replicas
}

// InitProducer asks for a new producer id. It does not retry.
func (c *Client) InitProducer(ctx context.Context) (Producer, error) {
	const what = "new producer id"
	ctx, cancel := c.limited(ctx, 0)
	defer cancel()
	body := appendInt32([]byte{0xff, 0xff}, 60_000) // no transactional id; its timeout, unused
	b, err := c.send(ctx, &request{key: protocol.InitProducerId, version: 1, broker: anyBroker, chunks: [][]byte{body}})
	if err != nil {
		return Producer{}, unavailable(what, err)
	}
	d := decoder{b: b}
	_ = d.int32() // throttle
	code := d.int16()
	p := Producer{ID: d.int64(), Epoch: d.int16()}
	if code != 0 {
		return Producer{}, answered(what, code, "")
	}
	if d.err != nil {
		return Producer{}, unavailable(what, d.err)
	}
	// With an id below 0 every write works and nothing is recognised.
	if p.ID < 0 || p.Epoch < 0 {
		return Producer{}, unavailable(what, fmt.Errorf("broker answered id %d, epoch %d", p.ID, p.Epoch))
	}
	return p, nil
}

// maxRequest bounds the bytes of one request, but for a single batch: Kafka takes no
// more than 100 MiB (socket.request.max.bytes), and each request must be answered
// within the client's timeout, over whatever network there is.
const maxRequest = 8 << 20

// Produce sends sealed batches, at most one per partition, and waits until all
// in-sync replicas have them. The results are in the order of the batches. The
// batches of a leader go in one request, or in several one after the other when they
// are large. The batches may be used again when Produce returns.
//
// An ErrUnavailable leaves the outcome open: send the very same batch again,
// before any later one of its partition.
func (c *Client) Produce(ctx context.Context, batches []*Batch) []Result {
	results := make([]Result, len(batches))
	byLeader := c.groupBatches(ctx, batches, results)
	var wg sync.WaitGroup
	for leader, indexes := range byLeader {
		if len(byLeader) == 1 {
			c.produceAll(ctx, leader, batches, indexes, results)
			break
		}
		wg.Go(func() { c.produceAll(ctx, leader, batches, indexes, results) })
	}
	wg.Wait()
	for i, r := range results {
		if r.Err != nil {
			c.faults.add(batches[i].place())
		}
	}
	return results
}

// produceAll sends the batches with the given indexes to one broker. After a
// request that it does not answer it is not asked any more.
func (c *Client) produceAll(ctx context.Context, leader int32, batches []*Batch, indexes []int, results []Result) {
	for len(indexes) > 0 {
		n := fitting(batches, indexes)
		err := c.produceTo(ctx, leader, batches, indexes[:n], results)
		indexes = indexes[n:]
		if err != nil {
			unanswered(err, batches, indexes, results)
			return
		}
	}
}

// fitting is how many of the batches with the given indexes the next request takes.
func fitting(batches []*Batch, indexes []int) (n int) {
	for size := 0; n < len(indexes); n++ {
		if size += batches[indexes[n]].Size(); size > maxRequest {
			break
		}
	}
	return max(n, 1)
}

// groupBatches sorts the batches by leader. Those that cannot be sent get
// their error at once.
func (c *Client) groupBatches(ctx context.Context, batches []*Batch, results []Result) map[int32][]int {
	topics := make([]string, 0, 4)
	for _, b := range batches {
		topics = appendNew(topics, b.topic)
	}
	limited, cancel := c.limited(ctx, 0)
	defer cancel()
	known, err := c.layout(limited, topics)
	byLeader := make(map[int32][]int, 1)
	for i, b := range batches {
		results[i] = Result{Offset: -1, Err: err}
		if err != nil {
			continue
		}
		if results[i].Err = b.check(batches[:i]); results[i].Err != nil {
			continue
		}
		leader, missing := leaderOf(known, b.topic, b.partition)
		if missing != nil {
			results[i].Err = missing
			continue
		}
		byLeader[leader] = append(byLeader[leader], i)
	}
	return byLeader
}

func appendNew(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}

// check finds a mistake of the caller.
func (b *Batch) check(before []*Batch) error {
	if b.count == 0 || !b.sealed || b.producer.ID < 0 {
		return fmt.Errorf("batch for %s/%d: want records, sealed, under a producer id from 0 on; have %d records, sealed %t, id %d",
			b.topic, b.partition, b.count, b.sealed, b.producer.ID)
	}
	for _, other := range before {
		if other.partition == b.partition && other.topic == b.topic {
			return fmt.Errorf("batch for %s/%d: the second one for this partition in one call", b.topic, b.partition)
		}
	}
	return nil
}

func leaderOf(known *metadata.Response, topic string, partition int32) (int32, error) {
	for i := range known.Topics {
		t := &known.Topics[i]
		if t.Name != topic {
			continue
		}
		what := fmt.Sprintf("%s/%d", topic, partition)
		if t.ErrorCode != 0 {
			return 0, answered(what, t.ErrorCode, "")
		}
		for j := range t.Partitions {
			if p := &t.Partitions[j]; p.PartitionIndex == partition {
				if p.LeaderID < 0 {
					return 0, unavailable(what, errors.New("partition has no leader"))
				}
				return p.LeaderID, nil
			}
		}
		return 0, unavailable(what, fmt.Errorf("topic has %d partitions", len(t.Partitions)))
	}
	return 0, unavailable(topic, errors.New("topic is not known"))
}

// produceTo sends the batches with the given indexes to one broker, as a
// Produce request of version 8 with acks from all in-sync replicas. The error, which
// is in the results, says that there was no answer.
func (c *Client) produceTo(ctx context.Context, leader int32, batches []*Batch, indexes []int, results []Result) error {
	limited, cancel := c.limited(ctx, 0)
	defer cancel()
	f := newFloor(c, batches, indexes)
	body, err := c.send(limited, &request{key: protocol.Produce, version: 8, broker: leader, chunks: c.produceBody(batches, indexes), check: f.check})
	if err == nil && len(f.short) > 0 { // nothing was sent
		if rest := f.answer(results); len(rest) > 0 {
			return c.produceTo(ctx, leader, batches, rest, results)
		}
		return nil
	}
	if err == nil {
		err = readProduced(body, batches, indexes, results)
	}
	if err != nil {
		unanswered(err, batches, indexes, results)
	}
	return err
}

// unanswered gives the batches with the given indexes an open outcome.
func unanswered(err error, batches []*Batch, indexes []int, results []Result) {
	for _, i := range indexes {
		results[i] = Result{Offset: -1, Err: unavailable(fmt.Sprintf("write to %s/%d", batches[i].topic, batches[i].partition), err)}
	}
}

// produceBody lays the batches out by topic; batches of a topic need not be
// neighbours.
func (c *Client) produceBody(batches []*Batch, indexes []int) [][]byte {
	topics := make([]string, 0, 4)
	for _, i := range indexes {
		topics = appendNew(topics, batches[i].topic)
	}
	head := []byte{0xff, 0xff, 0xff, 0xff} // no transactional id, acks -1
	head = appendInt32(head, int(c.config.Timeout.Milliseconds()/2))
	head = appendInt32(head, len(topics))
	chunks := make([][]byte, 0, 2*len(indexes))
	for _, topic := range topics {
		count := 0
		for _, i := range indexes {
			if batches[i].topic == topic {
				count++
			}
		}
		head = appendInt32(appendString(head, topic), count)
		for _, i := range indexes {
			if batches[i].topic == topic {
				head = appendInt32(head, int(batches[i].partition))
				chunks = append(chunks, head, batches[i].buf)
				head = nil
			}
		}
	}
	return chunks
}

// readProduced reads the answer to a Produce request. Every batch must be
// answered, else the whole answer counts as none.
func readProduced(body []byte, batches []*Batch, indexes []int, results []Result) error {
	d := decoder{b: body}
	left := len(indexes)
	for range d.count() {
		topic := d.string()
		for range d.count() {
			partition, code, offset := d.int32(), d.int16(), d.int64()
			_, _ = d.int64(), d.int64() // append time, start of the log
			message := ""
			for range d.count() {
				_ = d.int32() // index of the record
				message = d.string()
			}
			if whole := d.string(); whole != "" {
				message = whole
			}
			for _, i := range indexes {
				if b := batches[i]; b.partition == partition && b.topic == topic && d.err == nil {
					results[i] = produced(b, code, message, offset)
					left--
				}
			}
		}
	}
	if d.err == nil && left != 0 {
		return fmt.Errorf("%d of %d batches were not answered", left, len(indexes))
	}
	return d.err
}

func produced(b *Batch, code int16, message string, offset int64) Result {
	if code == codeDuplicateSequence {
		return Result{Offset: -1}
	}
	if code != 0 {
		return Result{Offset: -1, Err: answered(fmt.Sprintf("write of %d records to %s/%d", b.count, b.topic, b.partition), code, message)}
	}
	return Result{Offset: offset}
}
