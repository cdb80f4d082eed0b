package chaos

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pavane/cmd/pavane/internal/client"
)

func TestLoad_AnswerLostAndTheOrderCancelledMeanwhile_CountsAsPlaced(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	keys := make(chan string, 4)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			fmt.Fprint(w, `{"order_id":"o-1","state":"cancelled","reason":"deadline"}`) //nolint:errcheck // the test's client reads it
			return
		}
		keys <- r.Header.Get("Idempotency-Key")
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Location", "/v1/orders/o-1")
		w.WriteHeader(http.StatusConflict)
	}))
	t.Cleanup(server.Close)
	l := load{client.New(server.URL), 1, 1, "run", newBook()}
	l.live(t.Context(), 0)
	if first, again := <-keys, <-keys; first != again || first != "run-0" {
		t.Errorf("the keys are %q and %q", first, again)
	}
	if b := l.book; b.placed != 1 || b.ended["cancelled deadline"] != 1 || b.underWay() != 0 {
		t.Errorf("%d placed, ended %v, %d under way", b.placed, b.ended, b.underWay())
	}
}

// The end of the run is why the last try failed, and says nothing.
func TestLoad_GivenUpWhilePlacing_KeepsKeyAndLastRefusal(t *testing.T) {
	t.Parallel()
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			http.Error(w, "full", http.StatusServiceUnavailable)
			return
		}
		io.Copy(io.Discard, r.Body) //nolint:errcheck // the server sees that the client is gone only behind it
		giveUp()
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	l := load{client.New(server.URL), 1, 1, "run", newBook()}
	l.live(ctx, 0)
	if b := l.book; !slices.Equal(b.unplaced, []string{"run-0"}) || !strings.Contains(fmt.Sprint(b.fault), "full") {
		t.Errorf("unplaced %q, the last refusal: %v", b.unplaced, b.fault)
	}
}
