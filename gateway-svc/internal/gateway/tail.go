package gateway

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"pavane/shared/broker"
)

const (
	fetchWait  = 500 * time.Millisecond
	fetchBytes = 1 << 20
	fetchRetry = 250 * time.Millisecond
)

// Log is what the streams read events from. [broker.Client] is one.
type Log interface {
	Fetch(ctx context.Context, positions []broker.Position, maxWait time.Duration, maxBytes int) (broker.Fetched, error)
	Offsets(ctx context.Context, topics ...string) (map[string][]broker.Range, error)
}

// tail reads the end of the log once for all who listen, and only while somebody
// does. It is no member of any group: it moves nothing and misses nothing that
// matters to anybody but its listeners.
type tail struct {
	log    Log
	topics []string // sorted
	buffer int
	logger *slog.Logger

	mu        sync.Mutex
	closed    bool
	listeners map[*listener]struct{}
	at        []broker.Position // where the reading is; in the order of topics and partitions
	stop      context.CancelFunc
	wg        sync.WaitGroup
}

// listener gets every record from the place on where it began.
type listener struct {
	records chan broker.Record // closed when it is dropped
	why     string             // it was dropped; to be read once records is closed
}

func newTail(log Log, topics []string, buffer int, logger *slog.Logger) *tail {
	return &tail{log: log, topics: topics, buffer: buffer, logger: logger, listeners: map[*listener]struct{}{}}
}

// listen adds a listener and tells where it begins. The first one starts the
// reading at the end of the log, for which the log is asked without the lock:
// while it is silent, nobody waits for another's question.
func (t *tail) listen(ctx context.Context) (*listener, []broker.Position, error) {
	if l, at, err := t.join(nil); l != nil || err != nil {
		return l, at, err
	}
	_, ends, err := t.bounds(ctx)
	if err != nil {
		return nil, nil, err
	}
	return t.join(ends)
}

// join adds a listener to the reading. While nobody reads it starts a reading at
// the ends; without them it adds none.
func (t *tail) join(ends []broker.Position) (*listener, []broker.Position, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, nil, errors.New("the gateway is stopping")
	}
	if len(t.listeners) == 0 {
		if ends == nil {
			return nil, nil, nil
		}
		t.at = ends
		reading, stop := context.WithCancel(context.Background())
		t.stop = stop
		t.wg.Go(func() { t.read(reading) })
	}
	l := &listener{records: make(chan broker.Record, t.buffer)}
	t.listeners[l] = struct{}{}
	return l, slices.Clone(t.at), nil
}

// leave removes a listener. The last one ends the reading.
func (t *tail) leave(l *listener) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(l, "")
}

// drop is leave under the lock, and tells the listener why.
func (t *tail) drop(l *listener, why string) {
	if _, ok := t.listeners[l]; !ok {
		return
	}
	l.why = why
	delete(t.listeners, l)
	close(l.records)
	if len(t.listeners) == 0 {
		t.stop()
	}
}

// dropAll drops every listener; called with the lock held.
func (t *tail) dropAll(why string) {
	for l := range t.listeners {
		t.drop(l, why)
	}
}

// close ends all listening.
func (t *tail) close() {
	t.mu.Lock()
	t.closed = true
	t.dropAll("the gateway is stopping")
	t.mu.Unlock()
	t.wg.Wait()
}

// bounds returns the first position of every partition and the one after its
// last record.
func (t *tail) bounds(ctx context.Context) (firsts, ends []broker.Position, err error) {
	ranges, err := t.log.Offsets(ctx, t.topics...)
	if err != nil {
		return nil, nil, err
	}
	firsts, ends = []broker.Position{}, []broker.Position{}
	for _, topic := range t.topics {
		for partition, r := range ranges[topic] {
			firsts = append(firsts, broker.Position{Topic: topic, Partition: int32(partition), Offset: r.First})
			ends = append(ends, broker.Position{Topic: topic, Partition: int32(partition), Offset: r.End})
		}
	}
	return firsts, ends, nil
}

// read hands every record to every listener until ctx ends.
func (t *tail) read(ctx context.Context) {
	for ctx.Err() == nil {
		t.mu.Lock()
		from := slices.Clone(t.at)
		t.mu.Unlock()
		fetched, err := t.log.Fetch(ctx, from, fetchWait, fetchBytes)
		if len(fetched.Next) == len(from) { // records may come beside an error
			t.hand(ctx, fetched)
		}
		if err != nil && ctx.Err() == nil {
			t.recover(ctx, err)
		}
	}
}

// hand gives the records to the listeners. One that has no room left is
// dropped: nobody waits for the slowest.
func (t *tail) hand(ctx context.Context, fetched broker.Fetched) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil {
		return // the listeners there are now belong to a later reading
	}
	t.at = fetched.Next
	for _, r := range fetched.Records {
		for l := range t.listeners {
			select {
			case l.records <- r:
			default:
				t.drop(l, "this client reads too slowly")
			}
		}
	}
}

// recover waits after a failed fetch. When the log does not hold the position any
// more, all listeners are dropped, which ends this reading: the places that their
// clients have are none of this log either, so each has to come back and be told.
func (t *tail) recover(ctx context.Context, err error) {
	t.logger.DebugContext(ctx, "reading the log failed", "error", err)
	if errors.Is(err, broker.ErrOffsetRange) {
		t.logger.WarnContext(ctx, "the log does not hold the streams' place any more; they begin anew", "error", err)
		t.mu.Lock()
		if ctx.Err() == nil { // else the listeners there are now belong to a later reading
			t.dropAll("the log does not hold this place any more")
		}
		t.mu.Unlock()
	}
	pause(ctx, fetchRetry) //nolint:errcheck // the caller looks at ctx
}

// replay reads from the positions up to the given ones, and hands each record
// over. With nil it reads up to the end of the log.
func (t *tail) replay(ctx context.Context, from, upto []broker.Position, each func(broker.Record) error) ([]broker.Position, error) {
	for {
		if upto != nil && reached(from, upto) {
			return from, nil
		}
		fetched, err := t.log.Fetch(ctx, from, fetchWait, fetchBytes)
		if err != nil {
			return from, err
		}
		for _, r := range fetched.Records {
			if err := each(r); err != nil {
				return from, err
			}
		}
		from = fetched.Next
		if upto == nil && len(fetched.Records) == 0 {
			return from, nil
		}
	}
}

func reached(from, upto []broker.Position) bool {
	for i := range from {
		if from[i].Offset < upto[i].Offset {
			return false
		}
	}
	return true
}

// place returns the index of a record's partition in positions, or -1.
func place(positions []broker.Position, r broker.Record) int {
	return slices.IndexFunc(positions, func(p broker.Position) bool { return p.Partition == r.Partition && p.Topic == r.Topic })
}

// writeCursor makes an opaque text of the positions: their count and offsets.
func writeCursor(positions []broker.Position) string {
	b := binary.AppendUvarint(nil, uint64(len(positions)))
	for _, p := range positions {
		b = binary.AppendUvarint(b, uint64(p.Offset)) // #nosec G115 -- offsets begin at 0
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

var errCursor = errors.New("the cursor is not one of this log")

// readCursor reads what writeCursor wrote and checks that the log, with these
// bounds, still holds it.
func readCursor(cursor string, firsts, ends []broker.Position) ([]broker.Position, error) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCursor, err)
	}
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err = errCursor
			return 0
		}
		b = b[n:]
		return v
	}
	if count := next(); err != nil || count != uint64(len(ends)) {
		return nil, errCursor
	}
	positions := slices.Clone(ends)
	for i := range positions {
		positions[i].Offset = int64(next()) // #nosec G115 -- what is out of the bounds is refused below
		if err != nil || positions[i].Offset < firsts[i].Offset || positions[i].Offset > ends[i].Offset {
			return nil, errCursor
		}
	}
	return positions, nil
}
