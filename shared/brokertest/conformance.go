package brokertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pavane/shared/broker"
	"pavane/shared/event"
)

// embeddedID is the cluster id of the embedded broker.
const embeddedID = "pavane-embedded"

// Run holds the broker at addr to everything that the kit relies on. Any broker that passes it will do, and it
// passes on the embedded one and on Apache Kafka alike.
func Run(t *testing.T, addr string) {
	t.Helper()
	for _, c := range []struct {
		name  string
		check func(*bench)
	}{
		{"Produce_WhatIsWritten_IsReadBackEqual", (*bench).roundTrip},
		{"Produce_SameBatchAgain_KeepsItsOffsetAndTheLog", (*bench).duplicate},
		{"Produce_LastBatchAgainByNewClient_KeepsItsOffset", (*bench).freshClient},
		{"Produce_Gap_IsErrSequenceGapAndWritesNothing", (*bench).gap},
		{"Produce_OldEpoch_IsErrFenced", (*bench).oldEpoch},
		{"Produce_ManyPartitions_EachHasItsOwnAnswer", (*bench).manyPartitions},
		{"Produce_StampedFarAhead_IsTakenByTheTopicsOfOurs", (*bench).ahead},
		{"Produce_UnknownTopic_IsErrUnavailable", (*bench).unknownTopic},
		{"Produce_TooLarge_IsErrRefusedAndTheOthersPass", (*bench).tooLarge},
		{"Produce_SequenceWraps_AtItsEnd", (*bench).wrap},
		{"Produce_NotSealed_IsNotSent", (*bench).notSealed},
		{"Fetch_FromInsideABatch_BeginsThere", (*bench).insideBatch},
		{"Fetch_AtTheEnd_WaitsNoLongerThanAsked", (*bench).atEnd},
		{"Fetch_WhileWaiting_ReturnsWithTheFirstRecord", (*bench).wakes},
		{"Fetch_Cancelled_ReturnsAtOnce", (*bench).cancelled},
		{"Fetch_PastTheEnd_IsErrOffsetRange", (*bench).pastEnd},
		{"Fetch_SmallLimit_ReachesEveryPartition", (*bench).fair},
		{"Batches_OfSeveralProducers_TellWhoWroteThem", (*bench).batches},
		{"Topics_EnsureTwice_ChangesNothing", (*bench).ensure},
		{"Topics_WrongCountOrPolicy_IsFound", (*bench).wrongTopics},
		{"Cluster_HasAnID", (*bench).clusterID},
		{"Group_MembersComeAndGo_EveryPartitionHasOneOwner", (*bench).members},
		{"Group_CommitOfAnOldGeneration_IsRefused", (*bench).commits},
		{"Group_ConsumerFails_JoinsAgain", (*bench).failing},
		{"Group_TopicComesLater_IsNotMissed", (*bench).lateTopic},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			b := &bench{T: t, addr: addr, ctx: ctx}
			b.client = b.dial()
			c.check(b)
		})
	}
}

// bench is what one check works with.
type bench struct {
	*testing.T
	addr   string
	ctx    context.Context
	client *broker.Client
}

func (b *bench) dial() *broker.Client {
	b.Helper()
	c, err := broker.Dial(broker.Config{Brokers: strings.Split(b.addr, ",")})
	b.must(err)
	b.Cleanup(c.Close)
	return c
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) is(err, class error) {
	b.Helper()
	if !errors.Is(err, class) {
		b.Fatalf("got error %v; want one that is %q", err, class)
	}
}

// topic makes a topic that the client knows.
func (b *bench) topic(partitions int, configs map[string]string) string {
	b.Helper()
	name := "c-" + strings.ToLower(rand.Text())
	b.must(b.client.EnsureTopics(b.ctx, []broker.Topic{{Name: name, Partitions: partitions, ReplicationFactor: 1, Configs: configs}}))
	b.Cleanup(func() { remove(b, b.addr, name) })
	return name
}

// producer asks until the broker, which may just have started, gives an id.
func (b *bench) producer() broker.Producer {
	b.Helper()
	for {
		p, err := b.client.InitProducer(b.ctx)
		if err == nil {
			return p
		}
		if b.ctx.Err() != nil {
			b.Fatal(err)
		}
	}
}

// batch has n records whose values name the sequence they are at.
func batch(topic string, partition int32, p broker.Producer, first int32, n int) *broker.Batch {
	out := new(broker.Batch)
	out.Reset(topic, partition)
	for i := range n {
		out.Add(1_700_000_000_000+int64(i), []byte("key"), fmt.Append(nil, first+int32(i)), nil)
	}
	out.Seal(p, first)
	return out
}

func (b *bench) write(batches ...*broker.Batch) []broker.Result {
	b.Helper()
	return b.client.Produce(b.ctx, batches)
}

// put writes a batch that must be accepted and returns its offset.
func (b *bench) put(x *broker.Batch) int64 {
	b.Helper()
	for {
		r := b.write(x)[0]
		if errors.Is(r.Err, broker.ErrUnavailable) && b.ctx.Err() == nil {
			continue
		}
		b.must(r.Err)
		return r.Offset
	}
}

func (b *bench) end(topic string, partition int32) int64 {
	b.Helper()
	all, err := b.client.Offsets(b.ctx, topic)
	b.must(err)
	return all[topic][partition].End
}

func (b *bench) wantEqual(what string, got, want any) {
	b.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		b.Fatalf("%s: got %v; want %v", what, got, want)
	}
}

func (b *bench) roundTrip() {
	topic := b.topic(1, map[string]string{"message.timestamp.type": "CreateTime"})
	headers := []event.Header{{Key: "ce_id", Value: []byte("1")}, {Key: "traceparent", Value: []byte{}}, {Key: "ce_id", Value: []byte("ü")}}
	x := new(broker.Batch)
	x.Reset(topic, 0)
	x.Add(1_700_000_000_123, []byte("k"), []byte(`{"a":1}`), event.AppendHeaders(nil, headers))
	x.Add(1_700_000_000_000, nil, []byte{}, nil)
	x.Add(1_700_000_099_999, []byte{}, nil, nil)
	x.Add(1_700_000_099_999, []byte("big"), bytes.Repeat([]byte("x"), 100_000), nil)
	x.Seal(b.producer(), 0)
	b.put(x)
	f, err := b.client.Fetch(b.ctx, []broker.Position{{Topic: topic}}, time.Second, 1<<20)
	b.must(err)
	if len(f.Records) != 4 {
		b.Fatalf("got %d records; want 4", len(f.Records))
	}
	b.wantEqual("next and end", []any{f.Next, f.End}, []any{[]broker.Position{{Topic: topic, Offset: 4}}, []int64{4}})
	r := f.Records
	b.wantEqual("headers", r[0].Headers, headers)
	b.wantEqual("first record", []any{string(r[0].Key), string(r[0].Value), r[0].Time.UnixMilli(), r[0].Offset}, []any{"k", `{"a":1}`, 1_700_000_000_123, 0})
	b.wantEqual("null key, empty value", []bool{r[1].Key == nil, r[1].Value != nil, len(r[1].Value) == 0}, []bool{true, true, true})
	b.wantEqual("empty key, null value", []bool{r[2].Key != nil, r[2].Value == nil}, []bool{true, true})
	b.wantEqual("times", []int64{r[1].Time.UnixMilli(), r[2].Time.UnixMilli()}, []int64{1_700_000_000_000, 1_700_000_099_999})
	b.wantEqual("size of the value", len(r[3].Value), 100_000)
}

// ahead is what a relay sends whose database has its clock hours ahead.
func (b *bench) ahead() {
	topic := b.topic(1, nil)
	x := new(broker.Batch)
	x.Reset(topic, 0)
	x.Add(time.Now().Add(3*time.Hour).UnixMilli(), []byte("k"), []byte("v"), nil)
	x.Seal(b.producer(), 0)
	b.put(x)
}

func (b *bench) duplicate() {
	topic, p := b.topic(1, nil), b.producer()
	b.put(batch(topic, 0, p, 0, 2))
	again := batch(topic, 0, p, 2, 3)
	first := b.put(again)
	for range 3 {
		b.wantEqual("offset of the batch sent again", b.put(again), first)
	}
	b.wantEqual("end of the log", b.end(topic, 0), 5)
	b.wantEqual("offset of the next batch", b.put(batch(topic, 0, p, 5, 1)), 5)
}

func (b *bench) freshClient() {
	topic, p := b.topic(1, nil), b.producer()
	b.put(batch(topic, 0, p, 0, 4))
	last := b.put(batch(topic, 0, p, 4, 4))
	b.client.Close()
	b.client = b.dial()
	b.wantEqual("offset of the batch sent again", b.put(batch(topic, 0, p, 4, 4)), last)
	b.wantEqual("offset of the next batch", b.put(batch(topic, 0, p, 8, 1)), 8)
}

func (b *bench) gap() {
	topic, p := b.topic(1, nil), b.producer()
	b.put(batch(topic, 0, p, 0, 2))
	b.is(b.write(batch(topic, 0, p, 3, 1))[0].Err, broker.ErrSequenceGap)
	b.is(b.write(batch(topic, 0, p, 1, 1))[0].Err, broker.ErrSequenceGap)
	b.wantEqual("end of the log", b.end(topic, 0), 2)
	b.wantEqual("offset of the next batch", b.put(batch(topic, 0, p, 2, 1)), 2)
}

func (b *bench) oldEpoch() {
	topic, old := b.topic(1, nil), b.producer()
	b.put(batch(topic, 0, old, 0, 1))
	b.put(batch(topic, 0, broker.Producer{ID: old.ID, Epoch: old.Epoch + 1}, 0, 1))
	b.is(b.write(batch(topic, 0, old, 1, 1))[0].Err, broker.ErrFenced)
	b.wantEqual("end of the log", b.end(topic, 0), 2)
}

func (b *bench) manyPartitions() {
	one, two, p := b.topic(3, nil), b.topic(2, nil), b.producer()
	b.put(batch(one, 1, p, 0, 1))
	results := b.write(batch(two, 1, p, 0, 2), batch(one, 2, p, 0, 3), batch(one, 1, p, 5, 1), batch(one, 9, p, 0, 1), batch(two, 0, p, 0, 1), batch(one, 2, p, 3, 1))
	b.must(errors.Join(results[0].Err, results[1].Err, results[4].Err))
	b.is(results[2].Err, broker.ErrSequenceGap)
	b.is(results[3].Err, broker.ErrUnavailable)
	if results[5].Err == nil {
		b.Fatal("two batches for one partition in one call were taken")
	}
	ranges, err := b.client.Offsets(b.ctx, one, two)
	b.must(err)
	b.wantEqual("ranges", []any{ranges[one], ranges[two]}, []any{[]broker.Range{{}, {End: 1}, {End: 3}}, []broker.Range{{End: 1}, {End: 2}}})
}

func (b *bench) unknownTopic() {
	missing := "c-missing-" + rand.Text()
	b.is(b.write(batch(missing, 0, b.producer(), 0, 1))[0].Err, broker.ErrUnavailable)
	_, err := b.client.Fetch(b.ctx, []broker.Position{{Topic: missing}}, 0, 1<<20)
	b.is(err, broker.ErrUnavailable)
	_, err = b.client.Offsets(b.ctx, missing)
	b.is(err, broker.ErrUnavailable)
}

func (b *bench) tooLarge() {
	topic, p := b.topic(2, map[string]string{"max.message.bytes": "1000"}), b.producer()
	big := new(broker.Batch)
	big.Reset(topic, 0)
	big.Add(1_700_000_000_000, []byte("k"), make([]byte, 2000), nil)
	big.Seal(p, 0)
	results := b.write(big, batch(topic, 1, p, 0, 1))
	b.is(results[0].Err, broker.ErrRefused)
	b.must(results[1].Err)
	b.wantEqual("offset of a small one instead", b.put(batch(topic, 0, p, 0, 1)), 0)
}

func (b *bench) wrap() {
	topic, p := b.topic(1, nil), b.producer()
	b.put(batch(topic, 0, b.producer(), 0, 1))
	// A producer whose state has expired may go on anywhere; this one as well.
	const last = 1<<31 - 1
	b.put(batch(topic, 0, p, last-1, 2))
	b.wantEqual("next sequence", broker.NextSequence(last-1, 2), 0)
	id, err := b.client.ClusterID(b.ctx)
	b.must(err)
	if r := b.write(batch(topic, 0, p, 0, 1))[0]; id == embeddedID && errors.Is(r.Err, broker.ErrSequenceGap) {
		b.Log("the embedded broker wraps one sequence too early (it counts modulo 2^31-1); Kafka wraps after 2^31-1")
		return
	}
	b.wantEqual("offset after the wrap", b.put(batch(topic, 0, p, 0, 1)), 3)
	b.wantEqual("next offset after the wrap", b.put(batch(topic, 0, p, 1, 1)), 4)
}

func (b *bench) notSealed() {
	topic, p := b.topic(1, nil), b.producer()
	open := new(broker.Batch)
	open.Reset(topic, 0)
	open.Add(0, nil, nil, nil)
	unnamed := batch(topic, 0, broker.Producer{ID: -1, Epoch: -1}, 0, 1)
	for _, x := range []*broker.Batch{open, unnamed, batch(topic, 0, p, 0, 0)} {
		if b.write(x)[0].Err == nil {
			b.Fatal("a batch without seal, producer or records was sent")
		}
	}
	b.wantEqual("end of the log", b.end(topic, 0), 0)
}

func (b *bench) insideBatch() {
	topic, p := b.topic(1, nil), b.producer()
	b.put(batch(topic, 0, p, 0, 10))
	b.put(batch(topic, 0, p, 10, 10))
	f, err := b.client.Fetch(b.ctx, []broker.Position{{Topic: topic, Offset: 7}}, time.Second, 1<<20)
	b.must(err)
	var got []int64
	for i, r := range f.Records {
		b.wantEqual("value", string(r.Value), 7+i)
		got = append(got, r.Offset)
	}
	b.wantEqual("offsets", got, []int64{7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19})
	b.wantEqual("next", f.Next[0].Offset, 20)
}

func (b *bench) atEnd() {
	topic, p := b.topic(2, nil), b.producer()
	b.put(batch(topic, 0, p, 0, 3))
	at := []broker.Position{{Topic: topic, Partition: 1}, {Topic: topic, Offset: 3}}
	for _, wait := range []time.Duration{0, 300 * time.Millisecond} {
		began := time.Now()
		f, err := b.client.Fetch(b.ctx, at, wait, 1<<20)
		b.must(err)
		b.wantEqual("records, next, ends", []any{f.Records, f.Next, f.End}, []any{[]broker.Record{}, at, []int64{0, 3}})
		if took := time.Since(began); took < wait*8/10 || took > wait+5*time.Second {
			b.Fatalf("waited %s; want about %s", took, wait)
		}
	}
}

func (b *bench) wakes() {
	topic, p := b.topic(2, nil), b.producer()
	sent := make(chan error, 1)
	go func() { sent <- b.client.Produce(b.ctx, []*broker.Batch{batch(topic, 1, p, 0, 1)})[0].Err }()
	f, err := b.client.Fetch(b.ctx, []broker.Position{{Topic: topic}, {Topic: topic, Partition: 1}}, 20*time.Second, 1<<20)
	b.must(errors.Join(err, <-sent))
	b.wantEqual("next", f.Next, []broker.Position{{Topic: topic}, {Topic: topic, Partition: 1, Offset: 1}})
}

func (b *bench) cancelled() {
	topic := b.topic(1, nil)
	ctx, cancel := context.WithTimeout(b.ctx, 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := b.client.Fetch(ctx, []broker.Position{{Topic: topic}}, 30*time.Second, 1<<20)
	b.is(err, broker.ErrUnavailable)
	b.is(err, context.DeadlineExceeded)
	if took := time.Since(began); took > 5*time.Second {
		b.Fatalf("a cancelled fetch returned after %s", took)
	}
}

func (b *bench) pastEnd() {
	topic, p := b.topic(2, nil), b.producer()
	b.put(batch(topic, 0, p, 0, 3))
	b.put(batch(topic, 1, p, 0, 3))
	at := []broker.Position{{Topic: topic, Offset: 4}, {Topic: topic, Partition: 1}}
	f, err := b.client.Fetch(b.ctx, at, time.Second, 1<<20)
	b.is(err, broker.ErrOffsetRange)
	for _, word := range []string{topic + "/0@4", "0 to before 3"} {
		if !strings.Contains(err.Error(), word) {
			b.Fatalf("error %q does not say %q", err, word)
		}
	}
	b.wantEqual("next of the bad position", f.Next[0].Offset, 4)
	if f.Next[1].Offset != 0 && len(f.Records) != 3 {
		b.Fatalf("the other partition moved to %d with %d records", f.Next[1].Offset, len(f.Records))
	}
}

func (b *bench) fair() {
	topic, p := b.topic(3, nil), b.producer()
	at := make([]broker.Position, 3)
	for i := range at {
		at[i] = broker.Position{Topic: topic, Partition: int32(i)}
		for k := range 20 {
			b.put(batch(topic, int32(i), p, int32(k), 1))
		}
	}
	reached := map[int32]int{}
	for range 12 {
		f, err := b.client.Fetch(b.ctx, at, time.Second, 200)
		b.must(err)
		for _, r := range f.Records {
			reached[r.Partition]++
		}
		at = f.Next
	}
	if len(reached) != 3 {
		b.Fatalf("12 small fetches reached only these partitions: %v", reached)
	}
}

func (b *bench) ensure() {
	name := b.topic(3, map[string]string{"retention.ms": "-1"})
	want := []broker.Topic{{Name: name, Partitions: 3, ReplicationFactor: 1}}
	b.must(b.client.EnsureTopics(b.ctx, want))
	b.must(b.client.CheckTopics(b.ctx, want))
	limited, err := broker.Dial(broker.Config{Brokers: strings.Split(b.addr, ","), Topics: []string{"c-other"}})
	b.must(err)
	defer limited.Close()
	b.must(limited.EnsureTopics(b.ctx, want))
}

func (b *bench) wrongTopics() {
	three, compacted := b.topic(3, nil), b.topic(1, map[string]string{"cleanup.policy": "compact"})
	for _, c := range []struct {
		topic broker.Topic
		says  string
	}{
		{broker.Topic{Name: three, Partitions: 4}, "has 3 partitions: want 4"},
		{broker.Topic{Name: compacted, Partitions: 1}, "cleanup.policy=compact"},
		{broker.Topic{Name: "c-missing", Partitions: 1}, "not there"},
	} {
		err := b.client.CheckTopics(b.ctx, []broker.Topic{c.topic})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			b.Errorf("check of %+v: got %v; want an error that says %q", c.topic, err, c.says)
		}
	}
	err := b.client.EnsureTopics(b.ctx, []broker.Topic{{Name: "c-" + rand.Text(), Partitions: 1, ReplicationFactor: 99}})
	if err == nil {
		b.Error("a topic with 99 replicas was created")
	}
}

func (b *bench) clusterID() {
	id, err := b.client.ClusterID(b.ctx)
	b.must(err)
	if id == "" {
		b.Fatal("the cluster has no id")
	}
}
