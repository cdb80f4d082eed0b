package broker

import (
	"context"
	"encoding/binary"
	"fmt"
)

// Written tells who wrote a batch that lies in the log, and under which sequence
// numbers.
type Written struct {
	Offset   int64    // of the first record
	Producer Producer // an ID below 0: a producer without one
	Sequence int32    // of the first record; below 0: none
	Len      int      // records, and so sequence numbers
}

// Batches reads from a position on who wrote what, without the records. next is
// where to read on; with the position itself the broker had nothing to give.
// maxBytes bounds the answer; a first batch larger than that comes whole. The
// first batch may begin before the position. An offset outside the log is
// ErrOffsetRange.
func (c *Client) Batches(ctx context.Context, at Position, maxBytes int) (batches []Written, next int64, err error) {
	plans, err := c.plan(ctx, []Position{at})
	if err != nil {
		return nil, at.Offset, err
	}
	parts, err := c.fetchFrom(ctx, plans[0], 0, maxBytes)
	if err != nil {
		return nil, at.Offset, err
	}
	next = at.Offset
	for _, p := range parts {
		if p.topic != at.Topic || p.partition != at.Partition {
			continue
		}
		if p.code != 0 {
			return nil, next, answered("fetch "+at.String(), p.code, "")
		}
		for data := p.records; ; {
			var b []byte
			if b, data, err = cutBatch(data); err != nil {
				return batches, next, unavailable("fetch "+at.String(), err)
			}
			if b == nil {
				break
			}
			w := written(b)
			batches, next = append(batches, w), max(next, w.Offset+int64(w.Len))
		}
	}
	return batches, next, nil
}

// written reads the head of a batch. Formats before 2 know of no producers.
func written(b []byte) Written {
	w := Written{Offset: int64(binary.BigEndian.Uint64(b)), Producer: Producer{ID: -1, Epoch: -1}, Sequence: -1, Len: 1}
	if b[atMagic-prefix] == 2 {
		w.Producer = Producer{ID: int64(binary.BigEndian.Uint64(b[atProducer-prefix:])), Epoch: int16(binary.BigEndian.Uint16(b[atEpoch-prefix:]))}
		w.Sequence = int32(binary.BigEndian.Uint32(b[atSequence-prefix:]))
		w.Len = int(int32(binary.BigEndian.Uint32(b[atLastDelta-prefix:]))) + 1
	}
	return w
}

// cutBatch takes the first batch off fetched ones; nil when none is there whole.
// The last one may be cut off by the size limit of the fetch.
func cutBatch(data []byte) (b, rest []byte, err error) {
	if len(data) < atRecords-prefix {
		return nil, data, nil
	}
	size := int64(int32(binary.BigEndian.Uint32(data[atLength-prefix:]))) + 12
	if size < atRecords-prefix {
		return nil, data, fmt.Errorf("batch of size %d: %w", size, errShort)
	}
	if size > int64(len(data)) {
		return nil, data, nil
	}
	return data[:size:size], data[size:], nil
}
