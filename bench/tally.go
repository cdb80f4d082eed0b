package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"pavane/shared/broker"
)

// tally compares a topic with the rows that should be in it. Every key has the
// numbers 1, 2, 3 …, so key and number name a row.
type tally struct {
	Records    int `json:"records"`
	Duplicates int `json:"duplicates"` // records whose row was there before
	Missing    int `json:"missing"`    // rows without a record
	Inversions int `json:"inversions"` // rows that came after a later one of their key
	Split      int `json:"split_keys"` // keys in more than one partition

	seen map[string]*keySeen
}

type keySeen struct {
	partition int32
	split     bool
	highest   int64
	numbers   map[int64]struct{}
}

func newTally() *tally { return &tally{seen: map[string]*keySeen{}} }

// add counts a record.
func (t *tally) add(partition int32, key string, number int64) {
	t.Records++
	k, ok := t.seen[key]
	if !ok {
		k = &keySeen{partition: partition, numbers: map[int64]struct{}{}}
		t.seen[key] = k
	}
	if partition != k.partition && !k.split {
		k.split = true
		t.Split++
	}
	if _, ok := k.numbers[number]; ok {
		t.Duplicates++
		return
	}
	k.numbers[number] = struct{}{}
	if number < k.highest {
		t.Inversions++
	}
	k.highest = max(k.highest, number)
}

// close says how many rows there should be.
func (t *tally) close(rows int) {
	t.Missing = rows - (t.Records - t.Duplicates)
	t.seen = nil
}

// clean is whether each row is in the log once and in order.
func (t *tally) clean() bool {
	return t.Duplicates == 0 && t.Missing == 0 && t.Inversions == 0 && t.Split == 0
}

func (t *tally) String() string {
	return fmt.Sprintf("%d duplicates, %d missing, %d inversions, %d split keys", t.Duplicates, t.Missing, t.Inversions, t.Split)
}

// count reads the whole topic and compares it with rows.
func (t *trial) count(ctx context.Context, rows int) (*tally, error) {
	log, err := t.log(ctx)
	if err != nil {
		return nil, err
	}
	found := newTally()
	for p, r := range log {
		at := broker.Position{Topic: t.name, Partition: int32(p), Offset: r.First}
		for at.Offset < r.End {
			got, err := t.client.Fetch(ctx, []broker.Position{at}, time.Second, 8<<20)
			if err != nil {
				return nil, err
			}
			for _, rec := range got.Records {
				number, err := numberOf(rec)
				if err != nil {
					return nil, err
				}
				found.add(rec.Partition, string(rec.Key), number)
			}
			at = got.Next[0]
		}
	}
	found.close(rows)
	return found, nil
}

func numberOf(rec broker.Record) (int64, error) {
	for _, h := range rec.Headers {
		if h.Key == sequenceHeader {
			return strconv.ParseInt(string(h.Value), 10, 64)
		}
	}
	return 0, fmt.Errorf("record %d of partition %d has no header %s", rec.Offset, rec.Partition, sequenceHeader)
}

// inLog returns how many records the topic holds.
func (t *trial) inLog(ctx context.Context) (int, error) {
	log, err := t.log(ctx)
	if err != nil {
		return 0, err
	}
	sum := int64(0)
	for _, r := range log {
		sum += r.End - r.First
	}
	return int(sum), nil
}

// log returns where the trial's records lie in the topic, by partition.
func (t *trial) log(ctx context.Context) ([]broker.Range, error) {
	ranges, err := t.client.Offsets(ctx, t.name)
	if err != nil {
		return nil, err
	}
	log := ranges[t.name]
	for p := range t.brokenIn {
		log[p].First = t.brokenIn[p].End
	}
	return log, nil
}
