package notification_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// receiver is a server that webhooks go to, whose answers a test can bend.
type receiver struct {
	*httptest.Server

	mu    sync.Mutex
	bend  func(w http.ResponseWriter, nth int) bool // true: it has answered
	calls []call
}

// call is one request that came.
type call struct {
	at     time.Time
	method string
	path   string
	header http.Header
	body   string
}

func (c call) id() string { return c.header.Get("webhook-id") }

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// on sets how the nth request (from 1) is answered.
func (r *receiver) on(bend func(w http.ResponseWriter, nth int) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bend = bend
}

// answer is a bend: the first requests, so many, get the status.
func answer(first, status int, header ...string) func(http.ResponseWriter, int) bool {
	return func(w http.ResponseWriter, nth int) bool {
		if nth > first {
			return false
		}
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, "words of the receiver") //nolint:errcheck // who reads it looks at it
		return true
	}
}

// ServeHTTP implements [http.Handler].
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	r.calls = append(r.calls, call{at: time.Now(), method: req.Method, path: req.URL.Path, header: req.Header, body: string(body)})
	bend, nth := r.bend, len(r.calls)
	r.mu.Unlock()
	if bend == nil || !bend(w, nth) {
		w.WriteHeader(http.StatusNoContent)
	}
}

// got returns what came, in order.
func (r *receiver) got() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]call(nil), r.calls...)
}

// verify is the receiver's side of the Standard Webhooks specification, written
// from its text alone: one signature of the list is that of the secret.
func verify(secret string, header http.Header, body string) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(header.Get("webhook-id") + "." + header.Get("webhook-timestamp") + "." + body))
	want := mac.Sum(nil)
	for signature := range strings.SplitSeq(header.Get("webhook-signature"), " ") {
		version, text, _ := strings.Cut(signature, ",")
		if got, err := base64.StdEncoding.DecodeString(text); err == nil && version == "v1" && hmac.Equal(got, want) {
			return true
		}
	}
	return false
}
