package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"pavane/internal/audit"
	"pavane/shared/broker"
	"pavane/shared/contract"
	"pavane/shared/event"
)

const (
	// some is how many records of each partition are written again.
	some = 20
	// PoisonKey begins the keys of poison records: they are of no order.
	PoisonKey  = "chaos-"
	fetchWait  = 2 * time.Second
	idWait     = 10 * time.Second
	fetchBytes = 1 << 20
)

// records writes records into the topics that no service has sent. Each bears a
// mark, by which the audit tells it from those of the services.
type records struct {
	Spec
	driver Driver
	// choose returns what is written into a partition that holds have: its first
	// and its last records.
	choose func(s Spec, topic string, first, last []broker.Record) []broker.Record
}

func newRecords(choose func(Spec, string, []broker.Record, []broker.Record) []broker.Record) func(Spec, Driver) Fault {
	return func(s Spec, d Driver) Fault { return records{s, d, choose} }
}

func duplicates(_ Spec, _ string, _, last []broker.Record) []broker.Record { return last }

func replay(_ Spec, _ string, first, _ []broker.Record) []broker.Record { return first }

func reorder(_ Spec, _ string, _, last []broker.Record) []broker.Record {
	slices.Reverse(last)
	return last
}

// poison makes an event whose data is none, one of an unknown major version, one
// whose predecessors are missing, and what is no event at all.
func poison(s Spec, topic string, _, last []broker.Record) []broker.Record {
	if len(last) == 0 {
		return nil
	}
	model, err := event.Decode(last[0].Key, last[0].Headers, last[0].Value)
	if err != nil {
		return nil
	}
	name, _, err := event.SplitKind(model.Kind)
	if err != nil {
		return nil
	}
	var made []broker.Record
	add := func(what string, change func(*event.Envelope)) {
		e := model
		e.Key, e.ID, e.Sequence, e.Data = fmt.Sprintf("%s%s-%s-%d", PoisonKey, what, event.NewID(), s.Seed), event.NewID(), 1, []byte(`{"order_id":7}`)
		change(&e)
		made = append(made, broker.Record{Topic: topic, Key: []byte(e.Key), Value: e.Data, Headers: e.Headers()})
	}
	add("data", func(*event.Envelope) {})
	add("version", func(e *event.Envelope) { e.Kind = name + ".v99" })
	add("gap", func(e *event.Envelope) { e.Sequence = 5 })
	return append(made, broker.Record{Topic: topic, Key: []byte(PoisonKey + "bytes-" + event.NewID()), Value: []byte{0xff, 0, 0xfe}})
}

// Begin writes them.
func (f records) Begin(ctx context.Context) (string, error) {
	brokers, namespace := f.driver.Log()
	c, err := broker.Dial(broker.Config{Brokers: brokers, ClientID: "pavane-break"})
	if err != nil {
		return "", err
	}
	defer c.Close()
	written := 0
	for _, topic := range contract.Topics() {
		n, err := f.into(ctx, c, namespace+topic)
		if err != nil {
			return "", err
		}
		written += n
	}
	if written == 0 {
		return "", errors.New("no record was written: where it looked the topics hold none that a service has sent; place an order first")
	}
	return fmt.Sprintf("%d records written", written), nil
}

// Heal has nothing to do: what is in a log stays there.
func (records) Heal(context.Context) (string, error) { return "", nil }

func (f records) into(ctx context.Context, c *broker.Client, topic string) (int, error) {
	ranges, err := c.Offsets(ctx, topic)
	if err != nil {
		return 0, err
	}
	producer, err := newProducer(ctx, c)
	if err != nil {
		return 0, err
	}
	batches := map[int32]*broker.Batch{}
	for i, r := range ranges[topic] {
		first, err := read(ctx, c, topic, int32(i), r.First, r.End)
		if err != nil {
			return 0, err
		}
		last, err := read(ctx, c, topic, int32(i), max(r.First, r.End-some), r.End)
		if err != nil {
			return 0, err
		}
		for _, rec := range f.choose(f.Spec, topic, first, last) {
			collect(batches, rec, len(ranges[topic]))
		}
	}
	return produce(ctx, c, producer, batches)
}

// newProducer asks until there is an id: a Kafka that has come up a moment ago has
// none at the first request.
func newProducer(ctx context.Context, c *broker.Client) (broker.Producer, error) {
	ctx, cancel := context.WithTimeout(ctx, idWait)
	defer cancel()
	tick := time.NewTicker(serverPoll)
	defer tick.Stop()
	for {
		p, err := c.InitProducer(ctx)
		if !errors.Is(err, broker.ErrUnavailable) {
			return p, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return p, err
		}
	}
}

// collect adds a marked record to the batch of its partition. What was put here
// on purpose before is left out: it would breed.
func collect(batches map[int32]*broker.Batch, rec broker.Record, partitions int) {
	if audit.Injected(rec.Headers) {
		return
	}
	p := broker.Partition(rec.Key, partitions)
	if batches[p] == nil {
		batches[p] = &broker.Batch{}
		batches[p].Reset(rec.Topic, p)
	}
	headers := append(slices.Clone(rec.Headers), event.Header{Key: audit.InjectedHeader, Value: []byte("1")})
	batches[p].Add(time.Now().UnixMilli(), rec.Key, rec.Value, event.AppendHeaders(nil, headers))
}

func produce(ctx context.Context, c *broker.Client, producer broker.Producer, batches map[int32]*broker.Batch) (written int, err error) {
	var list []*broker.Batch
	for _, b := range batches {
		b.Seal(producer, 0)
		list = append(list, b)
	}
	for i, r := range c.Produce(ctx, list) {
		if r.Err != nil {
			return written, r.Err
		}
		written += list[i].Len()
	}
	return written, nil
}

// read reads up to some records from an offset on.
func read(ctx context.Context, c *broker.Client, topic string, partition int32, from, end int64) ([]broker.Record, error) {
	if from >= end {
		return nil, nil
	}
	f, err := c.Fetch(ctx, []broker.Position{{Topic: topic, Partition: partition, Offset: from}}, fetchWait, fetchBytes)
	return f.Records[:min(some, len(f.Records))], err
}
