package main

import (
	"strings"
	"testing"

	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
)

// put writes rows of work into the trial's topic under a new producer id, as a
// relay would that remembers nothing.
func put(t *testing.T, on *trial, numbers ...int) {
	t.Helper()
	producer, err := on.producer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := map[int32]int32{}
	for _, n := range numbers {
		it := newItem(n)
		p := broker.Partition([]byte(it.key), partitions)
		var b broker.Batch
		b.Reset(on.name, p)
		b.Add(1, []byte(it.key), it.payload, event.AppendHeaders(nil, it.envelope().Headers()))
		b.Seal(producer, next[p])
		next[p]++
		if res := on.client.Produce(t.Context(), []*broker.Batch{&b}); res[0].Err != nil {
			t.Fatal(res[0].Err)
		}
	}
}

func TestCount_RecordTwiceOrLateInARealLog_IsCounted(t *testing.T) {
	t.Parallel()
	addr := brokertest.Start(t)
	on := &trial{name: brokertest.Topic(t, addr, partitions)}
	client, err := broker.Dial(broker.Config{Brokers: strings.Split(addr, ","), Topics: []string{on.name}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	on.client = client
	for _, step := range []struct {
		put  []int // rows; those that are keys apart are of one key
		rows int
		want string
	}{
		{[]int{0, 1, keys, keys + 1, 2}, 5, "0 duplicates, 0 missing, 0 inversions, 0 split keys"},
		{[]int{keys, 1}, 5, "2 duplicates, 0 missing, 0 inversions, 0 split keys"},
		{[]int{3 * keys, 2 * keys}, 8, "2 duplicates, 1 missing, 1 inversions, 0 split keys"},
	} {
		put(t, on, step.put...)
		found, err := on.count(t.Context(), step.rows)
		if err != nil {
			t.Fatal(err)
		}
		if got := found.String(); got != step.want {
			t.Errorf("after %v: %s; want %s", step.put, got, step.want)
		}
		held, err := on.inLog(t.Context())
		if err != nil || held != found.Records {
			t.Errorf("the log holds %d records, %v; %d were read", held, err, found.Records)
		}
	}
}
