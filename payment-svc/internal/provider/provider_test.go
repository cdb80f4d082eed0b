package provider_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/payment-svc/internal/provider"
)

// answering is a client of a provider that answers each request with f, sooner or
// later.
func answering(t *testing.T, f http.HandlerFunc) *provider.Client {
	t.Helper()
	return within(t, time.Minute, f)
}

// within is one that waits so long for an answer.
func within(t *testing.T, patience time.Duration, f http.HandlerFunc) *provider.Client {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	c := provider.New(provider.Config{URL: server.URL + "/", Key: "secret", Timeout: patience})
	t.Cleanup(c.Close)
	return c
}

func intent() provider.Intent {
	return provider.Intent{Key: "o-1", Reference: "o-1", Token: "tok_ok", Amount: 300, Currency: "EUR"}
}

// Which errors leave the outcome open decides whether the provider is asked what
// came of a call.
func TestCall_EachAnswer_IsAChargeOrAnErrorThatIsCertainOrNot(t *testing.T) {
	t.Parallel()
	held := `{"key":"o-1","state":"held","amount":300,"currency":"EUR"}`
	for name, c := range map[string]struct {
		status  int
		body    string
		ok      bool
		certain bool
	}{
		"held":              {201, held, true, false},
		"refused":           {402, `{"key":"o-1","state":"refused","reason":"no"}`, true, false},
		"in another state":  {409, `{"key":"o-1","state":"voided"}`, true, false},
		"another charge":    {200, `{"key":"o-2","state":"held","amount":300,"currency":"EUR"}`, false, false},
		"another amount":    {200, `{"key":"o-1","state":"held","amount":301,"currency":"EUR"}`, false, false},
		"unknown state":     {200, `{"key":"o-1","state":"lost"}`, false, false},
		"no JSON":           {200, `<html>`, false, false},
		"endless":           {200, `{"key":"` + strings.Repeat("x", 2<<20), false, false},
		"broken":            {500, `oops`, false, false},
		"moved":             {302, ``, false, false},
		"request not taken": {422, `{"detail":"another request"}`, false, true},
		"too many requests": {429, ``, false, true},
		"wrong key":         {401, ``, false, true},
		"absent":            {404, ``, false, true},
	} {
		client := answering(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("Idempotency-Key") != `"o-1:authorize"` {
				t.Errorf("%s: headers %v", name, r.Header)
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(c.status)
			w.Write([]byte(c.body)) //nolint:errcheck // the client says what it got
		})
		got, err := client.Authorize(t.Context(), intent())
		if (err == nil) != c.ok || provider.Certain(err) != c.certain || c.ok && got.Key != "o-1" {
			t.Errorf("%s: got %+v, %v, certain %t; want ok %t, certain %t", name, got, err, provider.Certain(err), c.ok, c.certain)
		}
	}
}

func TestFind_KeyThatIsNotThere_IsTheStateNone(t *testing.T) {
	t.Parallel()
	c := answering(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	if got, err := c.Find(t.Context(), "o-1"); err != nil || got.State != provider.None {
		t.Errorf("got %+v, %v", got, err)
	}
}

// The transport would send a request with an Idempotency-Key again by itself.
func TestAuthorize_ConnectionLost_IsNotSentAgainAndLeavesItOpen(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1); r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		panic(http.ErrAbortHandler)
	})
	if _, err := c.Find(t.Context(), "o-1"); err != nil { // the connection is now an old one
		t.Fatal(err)
	}
	_, err := c.Authorize(t.Context(), intent())
	if err == nil || provider.Certain(err) || calls.Load() != 2 {
		t.Errorf("%v (certain %t) after %d requests; want an open error after 2", err, provider.Certain(err), calls.Load())
	}
}

func TestCall_NoAnswerInTime_LeavesItOpen(t *testing.T) {
	t.Parallel()
	c := within(t, 200*time.Millisecond, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // only then is a server told that its client is gone
		<-r.Context().Done()
	})
	if _, err := c.Capture(t.Context(), "o-1"); err == nil || provider.Certain(err) {
		t.Errorf("got %v, certain %t", err, provider.Certain(err))
	}
}

func TestClient_NobodyListens_IsCertainAndThenLeftAlone(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close() //nolint:errcheck // nobody shall listen there
	c := provider.New(provider.Config{URL: "http://" + addr, Timeout: time.Minute})
	for i := range 5 {
		if c.Room(16) != 16 {
			t.Fatalf("no room after %d failures", i)
		}
		if _, err := c.Void(context.Background(), "o-1"); !provider.Certain(err) {
			t.Errorf("got %v, which is not certain", err)
		}
	}
	if c.Room(16) != 0 {
		t.Error("there is room after five failures in a row")
	}
	if _, err := c.Void(t.Context(), "o-1"); err == nil || !provider.Certain(err) || !strings.Contains(err.Error(), "left alone") {
		t.Errorf("got %v", err)
	}
}

func TestConfig_UnusableValues_AreRefused(t *testing.T) {
	t.Parallel()
	good := provider.Config{URL: "https://provider.example", Timeout: time.Second, Reconcile: time.Minute}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*provider.Config){
		"no scheme": func(c *provider.Config) { c.URL = "provider.example" }, "other scheme": func(c *provider.Config) { c.URL = "ftp://x" },
		"no time": func(c *provider.Config) { c.Timeout = 0 }, "too much time": func(c *provider.Config) { c.Timeout = time.Hour },
		"backwards": func(c *provider.Config) { c.Reconcile = -1 },
	} {
		bad := good
		if spoil(&bad); bad.Validate() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// One call tries a provider that was left alone; when it fails, too, there is no
// second one.
func TestClient_TrialFails_IsLeftAloneAgain(t *testing.T) {
	t.Parallel()
	c := answering(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	fail := func() {
		t.Helper()
		if _, err := c.Void(t.Context(), "o-1"); err == nil {
			t.Fatal("taken")
		}
	}
	for range 5 {
		fail()
	}
	await.True(t, 30*time.Second, "there is room for a trial", func() bool { return c.Room(16) == 1 })
	fail()
	if n := c.Room(16); n != 0 {
		t.Errorf("there is room for %d more", n)
	}
}
