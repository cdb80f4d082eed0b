package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pavane/gateway-svc/internal/gateway"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
)

const partitions = 3

// testLog is a log on a real broker with topics of its own, and its writer.
type testLog struct {
	t        *testing.T
	client   *broker.Client
	topics   event.Topics
	producer broker.Producer
	next     map[string]int32                // sequence per topic/partition
	reading  atomic.Pointer[context.Context] // of the last fetch
}

func startLog(t *testing.T) *testLog {
	t.Helper()
	addr := brokertest.Start(t)
	l := &testLog{t: t, next: map[string]int32{}, topics: event.Topics{
		"order": brokertest.Topic(t, addr, partitions), "payment": brokertest.Topic(t, addr, partitions),
	}}
	client, err := broker.Dial(broker.Config{Brokers: []string{addr}, Topics: []string{l.topics["order"], l.topics["payment"]}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	l.client = client
	eventually(t, "a producer", func() bool {
		l.producer, err = client.InitProducer(t.Context())
		return err == nil
	})
	return l
}

// Fetch keeps its context, so that a test can see when nobody reads any more.
func (l *testLog) Fetch(ctx context.Context, from []broker.Position, wait time.Duration, limit int) (broker.Fetched, error) {
	l.reading.Store(&ctx)
	return l.client.Fetch(ctx, from, wait, limit)
}

func (l *testLog) Offsets(ctx context.Context, topics ...string) (map[string][]broker.Range, error) {
	return l.client.Offsets(ctx, topics...)
}

// put writes an event of a service.
func (l *testLog) put(source, kind, key string, sequence int64) {
	l.t.Helper()
	e := event.Envelope{
		ID: fmt.Sprintf("%s-%s-%d", source, key, sequence), Source: source, Kind: kind, Key: key, Sequence: sequence,
		Time: time.Unix(1, 0), Data: []byte(`{"n":1}`),
	}
	topic, err := l.topics.Of(kind)
	if err != nil {
		l.t.Fatal(err)
	}
	partition := broker.Partition([]byte(key), partitions)
	at := fmt.Sprint(topic, partition)
	b := &broker.Batch{}
	b.Reset(topic, partition)
	b.Add(1, []byte(key), e.Data, event.AppendHeaders(nil, e.Headers()))
	b.Seal(l.producer, l.next[at])
	l.next[at] = broker.NextSequence(l.next[at], 1)
	if r := l.client.Produce(l.t.Context(), []*broker.Batch{b}); r[0].Err != nil {
		l.t.Fatal(r[0].Err)
	}
}

// frame is one server-sent event, or a comment.
type frame struct {
	id, kind, data, comment string
}

// listenTo opens a stream. The channel ends with it.
func listenTo(t *testing.T, url, lastID string) (frames <-chan frame, leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s: %d %s", url, res.StatusCode, res.Header.Get("Content-Type"))
	}
	out := make(chan frame, 1000)
	go func() {
		defer close(out)
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 1<<20)
		var f frame
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				f.id = value
			case "event":
				f.kind = value
			case "data":
				f.data = value
			case "":
				if lines.Text() == "" && f != (frame{}) {
					out <- f
					f = frame{}
				} else {
					f.comment = value
				}
			}
		}
	}()
	t.Cleanup(cancel)
	return out, cancel
}

// until returns the first frame that is wanted.
func until(t *testing.T, frames <-chan frame, what string, wanted func(frame) bool) frame {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case f, ok := <-frames:
			if !ok {
				t.Fatalf("the stream ended before %s", what)
			}
			if wanted(f) {
				return f
			}
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// take returns the next event.
func take(t *testing.T, frames <-chan frame) frame {
	t.Helper()
	return until(t, frames, "an event", func(f frame) bool { return f.comment == "" })
}

// untilComment reads until a comment that holds the text.
func untilComment(t *testing.T, frames <-chan frame, text string) {
	t.Helper()
	until(t, frames, "the comment "+text, func(f frame) bool { return strings.Contains(f.comment, text) })
}

// untilEnd returns the rest of a stream that ends.
func untilEnd(t *testing.T, frames <-chan frame) (rest []frame) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case f, ok := <-frames:
			if !ok {
				return rest
			}
			rest = append(rest, f)
		case <-deadline:
			t.Fatal("the stream did not end")
		}
	}
}

func TestEvents_Live_EachEventOnceWithItsPlace(t *testing.T) {
	t.Parallel()
	log := startLog(t)
	log.put("/order-svc", "order.placed.v1", "before", 1)
	url := startGateway(t, gateway.Config{Log: log, Topics: log.topics})
	frames, _ := listenTo(t, url+"/v1/events", "")
	untilComment(t, frames, "live")
	log.put("/order-svc", "order.placed.v1", "o-1", 1)
	log.put("/payment-svc", "payment.authorized.v1", "o-1", 1)
	kinds := map[string]bool{"order.placed.v1": true, "payment.authorized.v1": true} // of two topics, in any order
	for i := range 2 {
		f := take(t, frames)
		var data map[string]any
		if err := json.Unmarshal([]byte(f.data), &data); err != nil {
			t.Fatal(err)
		}
		if !kinds[f.kind] || f.id == "" || data["subject"] != "o-1" || data["topic"] == "" || data["offset"] == nil || data["sequence"] != 1.0 {
			t.Errorf("event %d: %+v", i, f)
		}
		delete(kinds, f.kind)
	}
}

func TestEvents_ComeBackWithLastEventID_NothingIsMissedOrSentTwice(t *testing.T) {
	t.Parallel()
	log := startLog(t)
	url := startGateway(t, gateway.Config{Log: log, Topics: log.topics})
	keys := []string{"a", "b", "c", "d", "e"}
	frames, leave := listenTo(t, url+"/v1/events", "")
	untilComment(t, frames, "live")
	put := func(round int64) {
		for _, key := range keys {
			log.put("/order-svc", "order.placed.v1", key, round)
		}
	}
	got := map[string]int{}
	note := func(f frame) string {
		var data struct {
			Subject  string
			Sequence int64
		}
		if err := json.Unmarshal([]byte(f.data), &data); err != nil {
			t.Fatal(err)
		}
		got[fmt.Sprint(data.Subject, data.Sequence)]++
		return f.id
	}
	put(1)
	var last string
	for range 3 { // leaves in the middle
		last = note(take(t, frames))
	}
	leave()
	put(2)
	again, _ := listenTo(t, url+"/v1/events", last)
	for range 2 + len(keys) {
		note(take(t, again))
	}
	put(3)
	for range keys {
		note(take(t, again))
	}
	for round := 1; round <= 3; round++ {
		for _, key := range keys {
			if n := got[fmt.Sprint(key, round)]; n != 1 {
				t.Errorf("event %d of %s came %d times", round, key, n)
			}
		}
	}
}

func TestEvents_PlaceIsGone_SaysSoAndGoesOn(t *testing.T) {
	t.Parallel()
	log := startLog(t)
	url := startGateway(t, gateway.Config{Log: log, Topics: log.topics})
	for _, id := range []string{"nonsense", "AA", gateway.WriteCursor(make([]broker.Position, 99))} {
		frames, leave := listenTo(t, url+"/v1/events", id)
		untilComment(t, frames, "events are missing here")
		untilComment(t, frames, "live")
		leave()
	}
}

func TestEvents_SilentStream_SendsHeartbeats(t *testing.T) {
	t.Parallel()
	log := startLog(t)
	url := startGateway(t, gateway.Config{Log: log, Topics: log.topics, Heartbeat: 20 * time.Millisecond})
	frames, _ := listenTo(t, url+"/v1/events", "")
	untilComment(t, frames, "still here")
	untilComment(t, frames, "still here")
}

func TestEvents_NobodyListens_TheLogIsNotRead(t *testing.T) {
	t.Parallel()
	log := startLog(t)
	url := startGateway(t, gateway.Config{Log: log, Topics: log.topics})
	if log.reading.Load() != nil {
		t.Error("the log was read before anybody listened")
	}
	frames, leave := listenTo(t, url+"/v1/events", "")
	untilComment(t, frames, "live")
	log.put("/order-svc", "order.placed.v1", "a", 1)
	take(t, frames)
	leave()
	eventually(t, "the reading stops", func() bool { return (*log.reading.Load()).Err() != nil })
	log.put("/order-svc", "order.placed.v1", "a", 2)
	frames, _ = listenTo(t, url+"/v1/events", "")
	untilComment(t, frames, "live")
	log.put("/order-svc", "order.placed.v1", "a", 3)
	if f := take(t, frames); !strings.Contains(f.data, `"sequence":3`) {
		t.Errorf("listening again began with %s, want the end of the log", f.data)
	}
}

func TestEvents_LogAway_503(t *testing.T) {
	t.Parallel()
	url := startGateway(t, gateway.Config{})
	if got := ask(t, "GET", url+"/v1/events", "", "Last-Event-ID", "AA"); got.status != 503 {
		t.Errorf("%d %s", got.status, got.text)
	}
}

// burst is a log that brings many records at once and then none.
type burst struct {
	size int
}

func (b burst) Offsets(context.Context, ...string) (map[string][]broker.Range, error) {
	return map[string][]broker.Range{"t": {{}}}, nil
}

func (b burst) Fetch(ctx context.Context, from []broker.Position, _ time.Duration, _ int) (broker.Fetched, error) {
	f := broker.Fetched{Next: slices.Clone(from)}
	if from[0].Offset > 0 {
		<-ctx.Done()
		return f, ctx.Err()
	}
	for i := range b.size {
		f.Records = append(f.Records, broker.Record{Topic: "t", Offset: int64(i), Value: []byte(strings.Repeat("x", 1000))})
	}
	f.Next[0].Offset = int64(b.size)
	return f, nil
}

func TestEvents_ClientTooSlow_IsDroppedAndTold(t *testing.T) {
	t.Parallel()
	url := startGateway(t, gateway.Config{Log: burst{size: 5000}, Topics: event.Topics{"x": "t"}, Buffer: 8})
	frames, _ := listenTo(t, url+"/v1/events", "")
	untilComment(t, frames, "dropped: this client reads too slowly")
	untilEnd(t, frames)
}

// shrinking is a log of one partition that holds what lies before its end, which
// may be moved back.
type shrinking struct {
	mu    sync.Mutex
	end   int64
	moved chan struct{} // closed with the next move
}

func newShrinking(end int64) *shrinking { return &shrinking{end: end, moved: make(chan struct{})} }

func (s *shrinking) move(end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = end
	close(s.moved)
	s.moved = make(chan struct{})
}

func (s *shrinking) now() (end int64, moved <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end, s.moved
}

func (s *shrinking) Offsets(context.Context, ...string) (map[string][]broker.Range, error) {
	end, _ := s.now()
	return map[string][]broker.Range{"t": {{End: end}}}, nil
}

func (s *shrinking) Fetch(ctx context.Context, from []broker.Position, wait time.Duration, _ int) (broker.Fetched, error) {
	f := broker.Fetched{Next: slices.Clone(from)}
	end, moved := s.now()
	if from[0].Offset > end {
		return f, broker.ErrOffsetRange
	}
	if from[0].Offset == end {
		select {
		case <-moved:
		case <-time.After(wait):
		case <-ctx.Done():
		}
		return f, ctx.Err()
	}
	for i := from[0].Offset; i < end; i++ {
		f.Records = append(f.Records, broker.Record{Topic: "t", Offset: i})
	}
	f.Next[0].Offset = end
	return f, nil
}

func TestEvents_LogIsLostAndFillsAnew_ClientsComeBackAreToldAndGoOn(t *testing.T) {
	t.Parallel()
	log := newShrinking(5)
	url := startGateway(t, gateway.Config{Log: log, Topics: event.Topics{"x": "t"}})
	frames, _ := listenTo(t, url+"/v1/events", "")
	untilComment(t, frames, "live")
	log.move(6)
	last := take(t, frames).id
	log.move(1)
	untilComment(t, frames, "dropped: the log does not hold this place any more")
	untilEnd(t, frames)
	frames, _ = listenTo(t, url+"/v1/events", last)
	untilComment(t, frames, "events are missing here")
	untilComment(t, frames, "live")
	log.move(2)
	if f := take(t, frames); !strings.Contains(f.data, `"offset":1`) {
		t.Errorf("after the loss came %+v, want the record at 1", f)
	}
}

func TestOrderEvents_HistoryThenLive_EachOnceAndEndsWithTheOrder(t *testing.T) {
	t.Parallel()
	log := startLog(t)
	order := startService(t).on("GET /v1/story/o-1", 200, told(written("a", "order.placed.v1", 1, "", "01")))
	silent := startService(t).on("/", 200, told())
	reg := at{"order-svc": {order.addr()}, "payment-svc": {silent.addr()}, "inventory-svc": {silent.addr()}, "notification-svc": {silent.addr()}}.registry(t)
	log.topics["inventory"] = log.topics["payment"]
	url := startGateway(t, gateway.Config{Registry: reg, Log: log, Topics: event.Topics{"order": log.topics["order"], "payment": log.topics["payment"]}})
	frames, leave := listenTo(t, url+"/v1/orders/o-1/events", "")
	untilComment(t, frames, "live")
	log.put("/order-svc", "order.placed.v1", "o-1", 1) // told already
	log.put("/order-svc", "order.placed.v1", "o-2", 1) // another order's
	log.put("/order-svc", "order.confirmed.v1", "o-1", 2)
	f := take(t, frames)
	if f.kind != "order.confirmed.v1" {
		t.Fatalf("after the history came %+v", f)
	}
	leave()

	// Coming back sends only what is new, and the end.
	log.put("/payment-svc", "payment.captured.v1", "o-1", 1)
	order2 := startService(t).on("GET /v1/story/o-1", 200, told(written("a", "order.placed.v1", 1, "", "01"), written("d", "order.confirmed.v1", 2, "a", "02")))
	payment2 := startService(t).on("GET /v1/story/o-1", 200, told(written("e", "payment.captured.v1", 1, "d", "03")))
	reg = at{"order-svc": {order2.addr()}, "payment-svc": {payment2.addr()}, "inventory-svc": {silent.addr()}, "notification-svc": {silent.addr()}}.registry(t)
	url = startGateway(t, gateway.Config{Registry: reg, Log: log, Topics: event.Topics{"order": log.topics["order"], "payment": log.topics["payment"]}})
	frames, _ = listenTo(t, url+"/v1/orders/o-1/events", f.id)
	if f := take(t, frames); f.kind != "payment.captured.v1" {
		t.Fatalf("coming back began with %+v", f)
	}
	untilComment(t, frames, "live")
	log.put("/inventory-svc", "inventory.shipped.v1", "o-1", 1)
	for _, want := range []string{"inventory.shipped.v1", "end"} {
		if f := take(t, frames); f.kind != want {
			t.Errorf("%+v, want %s", f, want)
		}
	}
	if f, ok := <-frames; ok {
		t.Errorf("after the end came %+v", f)
	}
}

// reserving starts a gateway of an order that was cancelled after its reservation,
// of which inventory-svc tells what it is given.
func reserving(t *testing.T, log *testLog, status int, inventory string, heartbeat time.Duration) (url string) {
	t.Helper()
	order := startService(t).on("/", 200, told(written("a", "order.placed.v1", 1, "", "01"), written("d", "order.cancelled.v1", 2, "c", "04")))
	stock := startService(t).on("/", status, inventory)
	payment := startService(t).on("/", 200, told(written("c", "payment.declined.v1", 1, "b", "03")))
	mail := startService(t).on("/", 200, told())
	reg := at{"order-svc": {order.addr()}, "payment-svc": {payment.addr()}, "inventory-svc": {stock.addr()}, "notification-svc": {mail.addr()}}.registry(t)
	topics := event.Topics{"order": log.topics["order"], "payment": log.topics["payment"]}
	return startGateway(t, gateway.Config{Registry: reg, Log: log, Topics: topics, Heartbeat: heartbeat}) + "/v1/orders/o-1/events"
}

func TestOrderEvents_ServiceDidNotTell_NothingIsSentPastWhatIsMissing(t *testing.T) {
	t.Parallel()
	log := startLog(t)
	log.topics["inventory"] = log.topics["payment"]
	frames, _ := listenTo(t, reserving(t, log, 500, "{}", time.Hour), "")
	last := ""
	for _, want := range []string{"order.placed.v1", "payment.declined.v1", "order.cancelled.v1"} {
		f := take(t, frames)
		if f.kind != want {
			t.Fatalf("%+v, want %s", f, want)
		}
		last = f.id
	}
	untilComment(t, frames, "live")
	log.put("/inventory-svc", "inventory.released.v1", "o-1", 2)
	for _, f := range untilEnd(t, frames) {
		if f.kind != "" {
			t.Errorf("past the gap came %+v", f)
		}
	}
	both := told(written("b", "inventory.reserved.v1", 1, "a", "02"), written("e", "inventory.released.v1", 2, "d", "05"))
	frames, _ = listenTo(t, reserving(t, log, 200, both, time.Hour), last)
	for _, want := range []string{"inventory.reserved.v1", "inventory.released.v1", "end"} {
		if f := take(t, frames); f.kind != want {
			t.Errorf("%+v, want %s", f, want)
		}
	}
}

func TestOrderEvents_ServiceDidNotTell_EndsSoThatItIsAskedAgain(t *testing.T) {
	t.Parallel()
	frames, _ := listenTo(t, reserving(t, startLog(t), 500, "{}", 20*time.Millisecond), "")
	untilComment(t, frames, "the events of inventory-svc so far are missing")
	untilComment(t, frames, "live")
	untilEnd(t, frames)
}

func TestOrderEvents_UnknownOrder_404(t *testing.T) {
	t.Parallel()
	log := startLog(t)
	silent := startService(t).on("/", 200, told())
	reg := at{"order-svc": {silent.addr()}, "payment-svc": {silent.addr()}, "inventory-svc": {silent.addr()}, "notification-svc": {silent.addr()}}.registry(t)
	url := startGateway(t, gateway.Config{Registry: reg, Log: log, Topics: log.topics})
	if got := ask(t, "GET", url+"/v1/orders/o-9/events", ""); got.status != 404 {
		t.Errorf("%d %s", got.status, got.text)
	}
	if got := ask(t, "GET", url+"/v1/orders/a%20b/events", ""); got.status != 422 {
		t.Errorf("%d %s", got.status, got.text)
	}
}

func TestCursor_AnyPositions_ReadBackOrRefused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "partitions")
		firsts, ends, at := make([]broker.Position, n), make([]broker.Position, n), make([]broker.Position, n)
		for i := range at {
			low := rapid.Int64Range(0, 1<<40).Draw(t, "first")
			high := rapid.Int64Range(low, 1<<41).Draw(t, "end")
			firsts[i].Offset, ends[i].Offset = low, high
			at[i].Offset = rapid.Int64Range(low, high).Draw(t, "at")
		}
		cursor := gateway.WriteCursor(at)
		got, err := gateway.ReadCursor(cursor, firsts, ends)
		if err != nil || !slices.Equal(got, at) {
			t.Fatalf("%v, %v; want %v", got, err, at)
		}
		spoilt := slices.Clone(ends)
		i := rapid.IntRange(0, n-1).Draw(t, "which")
		spoilt[i].Offset = at[i].Offset - 1
		if _, err := gateway.ReadCursor(cursor, firsts, spoilt); err == nil {
			t.Fatal("a place behind the end of the log was taken")
		}
		noise := rapid.String().Draw(t, "noise")
		if got, err := gateway.ReadCursor(noise, firsts, ends); err == nil && len(got) != n {
			t.Fatalf("noise %q gave %v", noise, got)
		}
	})
}

func TestWaitOf_PreferHeaders(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{
		"": 0, "wait=5": 5 * time.Second, "respond-async, wait=7": 7 * time.Second, "Wait = \"3\"; x=1": 3 * time.Second,
		"wait=0": 0, "wait=-1": 0, "wait=soon": 0, "wait=99": 30 * time.Second, "wait=5, wait=9": 5 * time.Second, "waiter=5": 0,
	} {
		if got := gateway.WaitOf([]string{header}); got != want {
			t.Errorf("Prefer: %s gives %v, want %v", header, got, want)
		}
	}
	if got := gateway.WaitOf([]string{"respond-async", "wait=4"}); got != 4*time.Second {
		t.Errorf("second header line: %v", got)
	}
}
