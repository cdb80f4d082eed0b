package gateway_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"pavane/gateway-svc/internal/gateway"
	"pavane/shared/broker"
	"pavane/shared/event"
)

// scriptedLog is a log of one partition whose timing a test decides: what the
// handover from catching up to listening live depends on.
type scriptedLog struct {
	mu        sync.Mutex
	count     int64         // records there are
	changed   chan struct{} // closed when there are more
	onOffsets func()        // called before the bounds are told
	held      chan struct{} // the first fetch waits for it; nil: it does not
}

func newScriptedLog(count int64) *scriptedLog {
	return &scriptedLog{count: count, changed: make(chan struct{})}
}

func (l *scriptedLog) add(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count += n
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *scriptedLog) Offsets(context.Context, ...string) (map[string][]broker.Range, error) {
	if l.onOffsets != nil {
		l.onOffsets()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return map[string][]broker.Range{"t": {{First: 0, End: l.count}}}, nil
}

func (l *scriptedLog) Fetch(ctx context.Context, from []broker.Position, wait time.Duration, _ int) (broker.Fetched, error) {
	l.mu.Lock()
	held := l.held
	l.held = nil
	l.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
		}
	}
	l.mu.Lock()
	count, changed := l.count, l.changed
	l.mu.Unlock()
	if count == from[0].Offset {
		select {
		case <-changed:
		case <-time.After(min(wait, 20*time.Millisecond)):
		case <-ctx.Done():
		}
	}
	f := broker.Fetched{Next: []broker.Position{from[0]}}
	for ; f.Next[0].Offset < count; f.Next[0].Offset++ {
		f.Records = append(f.Records, numbered(f.Next[0].Offset))
	}
	return f, nil
}

// numbered is the record at an offset; its event's sequence is one more.
func numbered(offset int64) broker.Record {
	e := event.Envelope{ID: fmt.Sprint(offset), Source: "/s", Kind: "order.placed.v1", Key: "k", Sequence: offset + 1, Data: []byte("{}")}
	return broker.Record{Topic: "t", Offset: offset, Key: []byte("k"), Value: e.Data, Headers: e.Headers()}
}

// wantIDs takes events and checks that they are those of the offsets in order.
func wantIDs(t *testing.T, frames <-chan frame, first, last int64) {
	t.Helper()
	for offset := first; offset <= last; offset++ {
		if f, want := take(t, frames), cursorAt(offset+1); f.id != want {
			t.Fatalf("got %s, want the event at %d", f.data, offset)
		}
	}
}

func cursorAt(offset int64) string {
	return gateway.WriteCursor([]broker.Position{{Topic: "t", Offset: offset}})
}

func TestEvents_LogGrowsWhileAClientChangesToLive_NothingIsMissed(t *testing.T) {
	t.Parallel()
	log := newScriptedLog(5)
	calls := 0
	log.onOffsets = func() {
		if calls++; calls == 2 { // the first is for the cursor, the second begins the live reading
			log.add(3)
		}
	}
	url := startGateway(t, gateway.Config{Log: log, Topics: event.Topics{"order": "t"}})
	frames, _ := listenTo(t, url+"/v1/events", cursorAt(2))
	wantIDs(t, frames, 2, 7)
	untilComment(t, frames, "live")
	log.add(1)
	wantIDs(t, frames, 8, 8)
}

func TestEvents_LiveReadingIsBehindAClient_NothingComesTwice(t *testing.T) {
	t.Parallel()
	log := newScriptedLog(5)
	release := make(chan struct{})
	log.held = release
	url := startGateway(t, gateway.Config{Log: log, Topics: event.Topics{"order": "t"}})
	early, _ := listenTo(t, url+"/v1/events", "") // its reading hangs at 5
	untilComment(t, early, "live")
	eventually(t, "the reading hangs", func() bool { log.mu.Lock(); defer log.mu.Unlock(); return log.held == nil })
	log.add(3)
	late, _ := listenTo(t, url+"/v1/events", cursorAt(4))
	wantIDs(t, late, 4, 7)
	untilComment(t, late, "live")
	close(release)
	log.add(1)
	wantIDs(t, late, 8, 8)
	wantIDs(t, early, 5, 8)
}
