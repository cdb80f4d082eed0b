package broker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/segmentio/kafka-go/protocol"
)

// errWithheld keeps a request from being sent.
var errWithheld = errors.New("request was withheld")

// floor keeps batches from a log that ends before what they follow. It looks
// once per connection and partition, and again after each fault there: a broker that
// restarts, with less than it had, drops its connections, and one whose topic is made
// anew has no such topic for a while. The question and the batches take the same
// connection, so nothing can come between.
type floor struct {
	c       *Client
	batches []*Batch
	indexes []int
	short   map[int]int64 // by index: where the log ends
}

func newFloor(c *Client, batches []*Batch, indexes []int) *floor {
	return &floor{c: c, batches: batches, indexes: indexes}
}

// check is the request's check.
func (f *floor) check(rw io.ReadWriter) error {
	reached := map[Position]int{}
	if conn, ok := rw.(net.Conn); ok {
		if s := f.c.sockets.under(conn); s != nil {
			reached = s.reached
		}
	}
	var ask []Position
	faults := map[Position]int{}
	for _, i := range f.indexes {
		at := f.batches[i].place()
		faults[at] = f.c.faults.of(at)
		if before, ok := reached[at]; f.batches[i].after > 0 && (!ok || before != faults[at]) {
			ask = append(ask, at)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	ends, err := f.ends(rw, ask)
	if err != nil {
		return err
	}
	for _, i := range f.indexes {
		at := f.batches[i].place()
		end, asked := ends[at]
		switch {
		case asked && end < f.batches[i].after:
			if f.short == nil {
				f.short = map[int]int64{}
			}
			f.short[i] = end
		case asked:
			reached[at] = faults[at]
		}
	}
	if len(f.short) > 0 {
		return errWithheld
	}
	return nil
}

// ends asks the broker at the other end of rw.
func (f *floor) ends(rw io.ReadWriter, ask []Position) (map[Position]int64, error) {
	r := &request{
		key: protocol.ListOffsets, version: 2, clientID: f.c.config.ClientID, correlation: f.c.correlation.Add(1),
		chunks: [][]byte{offsetsBody(ask, latest)},
	}
	if err := r.write(rw); err != nil {
		return nil, err
	}
	body, err := r.read(rw)
	if err != nil {
		return nil, err
	}
	ends := make(map[Position]int64, len(ask))
	err = readOffsets("end of the log", body, ask, func(p Position) {
		ends[Position{Topic: p.Topic, Partition: p.Partition}] = p.Offset
	})
	return ends, err
}

// answer writes the results of the batches that were kept back for good, and
// returns the indexes of the others.
func (f *floor) answer(results []Result) (rest []int) {
	for _, i := range f.indexes {
		end, ok := f.short[i]
		if !ok {
			rest = append(rest, i)
			continue
		}
		results[i] = Result{Offset: -1, Err: fmt.Errorf("write to %s/%d: %w: the log ends at %d, the batch follows offset %d: records are lost",
			f.batches[i].topic, f.batches[i].partition, ErrSequenceGap, end, f.batches[i].after)}
	}
	return rest
}

// faults counts the batches that a partition has not taken. The zero value is ready.
type faults struct {
	mu sync.Mutex
	n  map[Position]int
}

func (f *faults) add(at Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == nil {
		f.n = map[Position]int{}
	}
	f.n[at]++
}

func (f *faults) of(at Position) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n[at]
}
