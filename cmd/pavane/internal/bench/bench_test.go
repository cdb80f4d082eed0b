package bench

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pavane/cmd/pavane/internal/stack"
)

func silent(string, ...any) {}

func TestLoad_SystemStalls_LatencyCountsFromWhenAnOrderWasDue(t *testing.T) {
	t.Parallel()
	const orders, stall = 20, 300 * time.Millisecond
	open := make(chan struct{})
	time.AfterFunc(stall, func() { close(open) })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-open
		w.Header().Set("Location", "/v1/orders/x")
		fmt.Fprint(w, `{"state": "confirmed"}`) //nolint:errcheck // the test's client reads it
	}))
	t.Cleanup(server.Close)
	l := newLoad(server.URL, 100)
	shots, err := l.run(t.Context(), orders*10*time.Millisecond, silent)
	if err != nil || len(shots) != orders {
		t.Fatalf("%d orders, %v", len(shots), err)
	}
	r := summary(shots)
	if r.Errors != 0 || r.Outcome[confirmed] != orders {
		t.Fatalf("%d errors (%s), outcomes %v", r.Errors, r.First, r.Outcome)
	}
	// Orders were due every 10 ms and answered together: one that waited for the
	// others to be answered would have taken no time at all.
	if want := ms(stall - orders/2*10*time.Millisecond); r.Latency.P50 < want-30 {
		t.Errorf("p50 is %.0f ms; the stall makes it at least %.0f ms", r.Latency.P50, want-30)
	}
}

func TestLoad_CountsRefusalsAndOutcomes(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Idempotency-Key") == "" || r.Header.Get("Prefer") != waitFor {
			t.Error("an order without its headers")
		}
		switch n.Add(1) % 3 {
		case 0:
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"state": "cancelled", "reason": "out_of_stock"}`) //nolint:errcheck // as above
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"title": "Service Unavailable"}`) //nolint:errcheck // as above
		default:
			fmt.Fprint(w, `{"state": "placed"}`) //nolint:errcheck // as above
		}
	}))
	t.Cleanup(server.Close)
	shots, err := newLoad(server.URL, 1000).run(t.Context(), 9*time.Millisecond, silent)
	if err != nil {
		t.Fatal(err)
	}
	r := summary(shots)
	if r.Orders != 9 || r.Errors != 3 || r.Outcome["cancelled: out_of_stock"] != 3 || r.Outcome["placed"] != 3 || r.Latency.N != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestLoad_Cancelled_Returns(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newLoad("http://127.0.0.1:1", 1).run(ctx, time.Hour, silent); err == nil {
		t.Error("a cancelled run ended without an error")
	}
}

func TestMeter_EveryProcessOfTheStack_HasALine(t *testing.T) {
	t.Parallel()
	self := stack.Process{Pid: os.Getpid()}
	m := newMeter(t.Context(), stack.State{
		Services: map[string]stack.Process{"order-svc": self, "provider": self}, Servers: map[string]stack.Process{"broker": self},
	}, map[string]int{"kafka": os.Getpid()})
	r := m.read()
	var got []string
	for _, u := range usage(r, r, time.Second, 1) {
		got = append(got, u.Process)
	}
	if want := []string{"broker", "order-svc", "provider", "kafka", tool}; !slices.Equal(got, want) {
		t.Errorf("CPU is told of %q, want %q", got, want)
	}
}

func TestSpread_TakesTheValueThatTheShareDoesNotExceed(t *testing.T) {
	t.Parallel()
	var all []time.Duration
	for i := 100; i > 0; i-- {
		all = append(all, time.Duration(i)*time.Millisecond)
	}
	if got, want := spread(all), (Spread{P50: 50, P90: 90, P99: 99, Max: 100, N: 100}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := spread(nil); got != (Spread{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestHops_AddUpToTheLatency_AndNoneIsNegative(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	at := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Millisecond) }
	ptr := func(n int) *time.Time { v := at(n); return &v }
	st := story{Events: []storyEvent{
		{Kind: steps()[3].kind, CreatedAt: at(80)},
		{Kind: steps()[0].kind, CreatedAt: at(10), PlannedAt: ptr(15), AckedAt: ptr(20)},
		{Kind: steps()[1].kind, CreatedAt: at(30), PlannedAt: ptr(35), AckedAt: ptr(57)}, // noted after it was read
		{Kind: steps()[2].kind, CreatedAt: at(50), PlannedAt: ptr(55), AckedAt: ptr(60)},
	}}
	s := shot{due: at(0), answered: at(90)}
	way, err := st.marks(s)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, h := range merge([]shot{s}, [][]mark{way}) {
		if h.Mean < 0 {
			t.Errorf("%s took %v ms", h.Name, h.Mean)
		}
		sum += h.Mean
	}
	if sum != 90 {
		t.Errorf("the hops add up to %v ms, the order took 90", sum)
	}
	if _, err := (story{}).marks(s); err == nil {
		t.Error("a story without events had marks")
	}
}
