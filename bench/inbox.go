package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/postgres"
	"pavane/shared/react"
)

// inboxKeys is how many keys the records of the inbox's section have.
const inboxKeys = 5000

// applied is a topic brought through the inbox, with one small row per effect.
type applied struct {
	Batch   bool    `json:"batch"`       // the handler takes many events at once
	Keys    int     `json:"keys_before"` // in the inbox, of other orders
	Records int     `json:"records"`
	Rate    float64 `json:"records_per_s"`
	CPU     usage   `json:"cpu"` // a record; the consumer runs in this process
	Effects int     `json:"effects"`
}

// told is the event of the inbox's section.
type told struct {
	Order string `json:"order"`
	N     int64  `json:"n"`
	Note  string `json:"note"`
}

func (told) Kind() string  { return "bench.told.v1" }
func (t told) Key() string { return t.Order }

// inboxes brings one topic through several inboxes in turn: with a handler for
// many events at once, with the same and many other keys, and with a handler for
// each event.
func inboxes(ctx context.Context, r *rig) (err error) {
	t, err := r.newTrial(ctx, pavane())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	if err := t.tell(ctx, r.inboxRecords); err != nil {
		return err
	}
	apply := func(a applied) (rate float64, err error) {
		a.Records = r.inboxRecords
		a, err = r.applyOne(ctx, t.name, a)
		return a.Rate, err
	}
	var many, full, ratios []float64
	for range r.inboxRounds {
		bare, err := apply(applied{Batch: true})
		if err != nil {
			return err
		}
		known, err := apply(applied{Batch: true, Keys: r.inboxFull})
		if err != nil {
			return err
		}
		many, full, ratios = append(many, bare), append(full, known), append(ratios, ratio(known, bare))
	}
	each, err := r.inboxOfOne(ctx)
	if err != nil {
		return err
	}
	name := pavane().name
	r.found.figure(r.section, "records/s, handler of many", map[string]float64{name: median(many)})
	r.found.figure(r.section, fmt.Sprintf("records/s, the same, %d keys before", r.inboxFull), map[string]float64{name: median(full)})
	r.found.figure(r.section, "records/s, handler of one", map[string]float64{name: each})
	r.found.goal(r.section, "records/s, handler of many", median(many), atLeast(20000))
	r.found.goal(r.section, fmt.Sprintf("rate with %d keys to without", r.inboxFull), median(ratios), atLeast(0.9))
	return nil
}

// inboxOfOne brings a topic of its own through a handler for each event. It has a
// fifth of the records: each takes several times as long.
func (r *rig) inboxOfOne(ctx context.Context) (rate float64, err error) {
	t, err := r.newTrial(ctx, pavane())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	a := applied{Records: r.inboxRecords / 5}
	if err := t.tell(ctx, a.Records); err != nil {
		return 0, err
	}
	a, err = r.applyOne(ctx, t.name, a)
	return a.Rate, err
}

// tell writes the records, as a relay would.
func (t *trial) tell(ctx context.Context, records int) error {
	producer, err := t.producer(ctx)
	if err != nil {
		return err
	}
	var next [partitions]int32
	for from := 0; from < records; from += produceBatch * partitions {
		batches := map[int32]*broker.Batch{}
		for n := from; n < min(from+produceBatch*partitions, records); n++ {
			e := told{Order: fmt.Sprintf("order-%05d", n*7919%inboxKeys), N: int64(n/inboxKeys) + 1, Note: "as small as an effect may be"}
			if err := addRecord(batches, t.name, e); err != nil {
				return err
			}
		}
		var all []*broker.Batch
		for p, b := range batches {
			b.Seal(producer, next[p])
			next[p] = broker.NextSequence(next[p], b.Len())
			all = append(all, b)
		}
		for _, res := range t.client.Produce(ctx, all) {
			if res.Err != nil {
				return res.Err
			}
		}
	}
	return nil
}

// producer asks for a producer id until the broker, which may just have started,
// has one to give.
func (t *trial) producer(ctx context.Context) (broker.Producer, error) {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	for {
		p, err := t.client.InitProducer(ctx)
		if err == nil {
			return p, nil
		}
		if pause(ctx, 10*look) != nil {
			return p, err
		}
	}
}

func addRecord(batches map[int32]*broker.Batch, topic string, e told) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	p := broker.Partition([]byte(e.Order), partitions)
	if batches[p] == nil {
		batches[p] = new(broker.Batch)
		batches[p].Reset(topic, p)
	}
	envelope := event.Envelope{ID: event.NewID(), Source: source, Kind: e.Kind(), Key: e.Order, Sequence: e.N, Time: time.Now(), CorrelationID: e.Order}
	batches[p].Add(time.Now().UnixMilli(), []byte(e.Order), data, event.AppendHeaders(nil, envelope.Headers()))
	return nil
}

// applyOne brings the topic through a fresh inbox as a says, and fills in what
// that came to.
func (r *rig) applyOne(ctx context.Context, topic string, a applied) (_ applied, err error) {
	t, err := r.newTrial(ctx, pavane())
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	if err := t.knowKeys(ctx, a.Keys); err != nil {
		return a, err
	}
	client, err := r.client(topic)
	if err != nil {
		return a, err
	}
	defer client.Close()
	consumer, err := t.consumer(client, topic, a.Batch)
	if err != nil {
		return a, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(running) }()
	err = t.awaitApplied(ctx, &a)
	stop()
	if err = errors.Join(err, <-ended); err != nil {
		return a, err
	}
	r.found.add(r.section, a)
	r.found.promises = append(r.found.promises, promise{
		r.section, "each record applied once", fmt.Sprintf("%d effects of %d records", a.Effects, a.Records), a.Effects == a.Records,
	})
	r.say("  %s, %d keys before: %.0f records/s, %.0f µs/record of Postgres, %.0f of the consumer, %.0f %% stolen, others %.0f %%",
		map[bool]string{true: "handler of many", false: "handler of one"}[a.Batch], a.Keys, a.Rate, a.CPU.Postgres, a.CPU.Self, 100*a.CPU.Stolen, 100*a.CPU.Others)
	return a, nil
}

// knowKeys makes an inbox that has applied an event of many orders, and the table
// of effects.
func (t *trial) knowKeys(ctx context.Context, n int) error {
	if err := execute(ctx, t.db, `create table effect (customer text not null, n bigint not null)`); err != nil {
		return err
	}
	err := execute(ctx, t.db, `insert into inbox (source, key, last_seq) select $1, 'order-' || md5(i::text), 1 from generate_series(1, $2::bigint) i`, source, n)
	if err != nil {
		return fmt.Errorf("fill the inbox: %w", err)
	}
	if err := t.settle(ctx, "inbox"); err != nil {
		return err
	}
	return t.calm(ctx)
}

// consumer applies each event as one small row, written by itself or together
// with those of other events.
func (t *trial) consumer(client *broker.Client, topic string, batch bool) (*react.Consumer, error) {
	out, err := outbox.New(outbox.Config{Source: "/bench-reader", Topics: event.Topics{"bench": topic}})
	if err != nil {
		return nil, err
	}
	reaction := react.On(applyEach)
	if batch {
		reaction = react.OnBatch(applyMany)
	}
	return react.NewConsumer(react.ConsumerConfig{
		Service: strings.ReplaceAll(t.name, "_", "-"), DB: t.db, Outbox: out, Source: client, Topics: []string{topic}, Partitions: partitions,
		Reactions: []react.Reaction{reaction},
	})
}

func applyEach(ctx context.Context, tx *sqlx.Tx, e told) ([]event.Numbered, error) {
	_, err := tx.ExecContext(ctx, `insert into effect (customer, n) values ($1, $2)`, e.Order, e.N)
	return nil, err
}

func applyMany(ctx context.Context, tx *sqlx.Tx, all []told) ([][]event.Numbered, error) {
	customers, numbers := make([]string, len(all)), make([]int64, len(all))
	for i, e := range all {
		customers[i], numbers[i] = e.Order, e.N
	}
	_, err := tx.ExecContext(ctx, `insert into effect (customer, n) select u.customer, u.n from unnest($1::text[], $2::bigint[]) as u (customer, n)`,
		postgres.Array(customers), postgres.Array(numbers))
	return nil, err
}

// awaitApplied waits until all records are applied, and measures from the first
// ones on: joining the group is not counted.
func (t *trial) awaitApplied(ctx context.Context, a *applied) error {
	ctx, cancel := context.WithTimeoutCause(ctx, drainTime, errors.New("the records were not applied"))
	defer cancel()
	tick := time.NewTicker(2 * look)
	defer tick.Stop()
	var before reading
	for begun := 0; ; {
		var done int
		if err := t.db.Get(ctx, &done, `select coalesce(sum(next_offset), 0) from inbox_offset`); err != nil {
			return err
		}
		switch now := t.read(nil); {
		case done == 0:
		case begun == 0:
			begun, before = done, now
		case done >= a.Records:
			a.CPU = now.since(before, a.Records-begun)
			a.Rate = perSecond(a.Records-begun, now.at.Sub(before.at))
			return t.db.Get(ctx, &a.Effects, `select count(*) from effect`)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
