package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pavane/gateway-svc/internal/gateway"
	"pavane/internal/leaks"
	"pavane/shared/broker"
	"pavane/shared/httpapi"
	"pavane/shared/registry"
)

func TestMain(m *testing.M) { os.Exit(leaks.Main(m.Run)) }

// fakeService is an instance of a service on a real socket.
type fakeService struct {
	*httptest.Server
	mux *http.ServeMux

	mu   sync.Mutex
	hits []*http.Request
}

func startService(t *testing.T) *fakeService {
	t.Helper()
	f := &fakeService{mux: http.NewServeMux()}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.hits = append(f.hits, r)
		f.mu.Unlock()
		f.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// on answers a pattern with a status and JSON.
func (f *fakeService) on(pattern string, status int, body string) *fakeService {
	f.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { answer(w, status, body) })
	return f
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, body) //nolint:errcheck // a test's client
}

func (f *fakeService) addr() string { return f.Listener.Addr().String() }

func (f *fakeService) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.hits)
}

// hang makes requests to a pattern wait until the client gives up.
func (f *fakeService) hang(pattern string) *fakeService {
	f.mux.HandleFunc(pattern, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	return f
}

// deadAddr is an address at which nobody listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// at lists addresses per service for a static registry.
type at map[string][]string

func (a at) registry(t *testing.T) registry.Registry {
	t.Helper()
	var entries []string
	for _, service := range slices.Sorted(maps.Keys(a)) {
		entries = append(entries, service+"="+strings.Join(a[service], ","))
	}
	r, err := registry.ParseStatic(strings.Join(entries, ";"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// noLog is a log that does not answer.
type noLog struct{}

func (noLog) Fetch(context.Context, []broker.Position, time.Duration, int) (broker.Fetched, error) {
	return broker.Fetched{}, broker.ErrUnavailable
}

func (noLog) Offsets(context.Context, ...string) (map[string][]broker.Range, error) {
	return nil, broker.ErrUnavailable
}

// startGateway serves a gateway and returns its URL.
func startGateway(t *testing.T, c gateway.Config) string {
	t.Helper()
	c.Logger = slog.New(slog.DiscardHandler)
	if c.Log == nil {
		c.Log = noLog{}
	}
	if c.Registry == nil {
		c.Registry = at{}.registry(t)
	}
	g := gateway.New(c)
	server := httpapi.New(httpapi.Config{Title: "gateway-svc", Version: "1.0.0", Logger: c.Logger})
	g.Register(server)
	front := httptest.NewServer(server.Handler())
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
		g.Close()
	})
	return front.URL
}

// answered is what a client of the gateway got.
type answered struct {
	status int
	header http.Header
	body   map[string]any
	text   string
}

func (a answered) detail() string { s, _ := a.body["detail"].(string); return s }

// ask sends a request; headers are pairs of name and value.
func ask(t *testing.T, method, url, body string, headers ...string) answered {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answered{status: res.StatusCode, header: res.Header, text: string(raw)}
	if len(raw) > 0 && strings.Contains(res.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			t.Fatalf("%s %s: body %q: %v", method, url, raw, err)
		}
	}
	return a
}

// eventually waits until ok, asking often, 20 s at most.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
