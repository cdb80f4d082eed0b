package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/tracing"
)

// requestIDForm is what is taken over from a caller: it goes into logs and
// headers as it is.
var requestIDForm = regexp.MustCompile(`^[A-Za-z0-9._:/+=-]{1,128}$`)

type contextKey struct{}

// request is what the package remembers of the request that is being served.
type request struct {
	id     string
	server *Server
	writer http.ResponseWriter
}

func requestFrom(ctx context.Context) request {
	q, _ := ctx.Value(contextKey{}).(request)
	return q
}

// RequestID is the id of the request that ctx belongs to: the caller's
// X-Request-Id if it is well formed, else a random one. Empty outside a request.
func RequestID(ctx context.Context) string { return requestFrom(ctx).id }

// Stream prepares an answer without an end, such as server-sent events: it lifts
// the time limit for writing and returns a context that ends when the client
// leaves or when the server stops. Call cancel at the end of the handler.
func Stream(w http.ResponseWriter, r *http.Request) (ctx context.Context, cancel context.CancelFunc) {
	// A writer without deadlines, as in tests, has nothing to lift.
	http.NewResponseController(w).SetWriteDeadline(time.Time{}) //nolint:errcheck // see above
	ctx, cancel = context.WithCancel(r.Context())
	q := requestFrom(ctx)
	if q.server == nil {
		return ctx, cancel
	}
	go func() {
		select {
		case <-q.server.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// bodyRead lifts the time limit for reading once the body is there. Without it
// the limit that huma sets for a body would end the context of a handler that
// waits longer than that.
func bodyRead(ctx context.Context) {
	if w := requestFrom(ctx).writer; w != nil {
		http.NewResponseController(w).SetReadDeadline(time.Time{}) //nolint:errcheck // a test's writer has no deadlines
	}
}

// middleware wraps the routes with all that holds for every request.
func (s *Server) middleware() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		a := &answer{ResponseWriter: w}
		q := request{id: requestID(r), server: s, writer: a}
		ctx, span := s.tracerFor(r).Serve(r)
		a.Header().Set("X-Request-Id", q.id)
		a.Header().Set(tracing.Header, tracing.TraceParent(ctx))
		r = r.WithContext(context.WithValue(ctx, contextKey{}, q))
		defer func() {
			s.observe(a, r, begin)
			span.Served(r.Pattern, a.code())
		}()
		defer s.recover(a, r)
		for _, guard := range s.guards {
			let := guard(a, r)
			if let == nil {
				return
			}
			r = let
		}
		s.route(a, r)
	})
}

// route serves the request, or says as a problem why the routes do not.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > s.config.MaxBodyBytes {
		WriteProblem(w, r, http.StatusRequestEntityTooLarge,
			fmt.Sprintf("the body has %d bytes, the limit is %d", r.ContentLength, s.config.MaxBodyBytes))
		return
	}
	if query, err := url.QueryUnescape(r.URL.RawQuery); err != nil || !utf8.ValidString(query) || !utf8.ValidString(r.URL.Path) {
		WriteProblem(w, r, http.StatusBadRequest, "the path or the query is not percent-encoded UTF-8")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, s.config.MaxBodyBytes)
	h, pattern := s.mux.Handler(r)
	if pattern != "" {
		s.mux.ServeHTTP(w, r) // not h: only the mux sets the path values
		return
	}
	refused := &headerOnly{header: http.Header{}, status: http.StatusNotFound}
	h.ServeHTTP(refused, r)
	if allow := refused.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		WriteProblem(w, r, http.StatusMethodNotAllowed, fmt.Sprintf("%s is not allowed here; use %s", r.Method, allow))
		return
	}
	WriteProblem(w, r, refused.status, fmt.Sprintf("there is no %s; see /openapi.json for what there is", r.URL.Path))
}

// recover turns a panic of a handler into a 500 and keeps the process.
func (s *Server) recover(a *answer, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
		panic(p) // net/http's own way to abort an answer
	}
	s.config.Logger.ErrorContext(r.Context(), "handler panicked", "panic", fmt.Sprint(p),
		"request_id", RequestID(r.Context()), "method", r.Method, "path", r.URL.Path, "stack", string(debug.Stack()))
	if a.status != 0 {
		panic(http.ErrAbortHandler) // too late for a status: cut the answer so that the client notices
	}
	WriteProblem(a, r, http.StatusInternalServerError, "")
}

// observe counts the request under its route, never under its path, of which
// there are as many as orders.
func (s *Server) observe(a *answer, r *http.Request, begin time.Time) {
	took := time.Since(begin)
	route := r.Pattern
	if route == "" {
		route = "none"
	}
	if s.requests != nil {
		s.requests.WithLabelValues(route, strconv.Itoa(a.code())).Observe(took.Seconds())
	}
	s.config.Logger.DebugContext(r.Context(), "request", "method", r.Method, "path", r.URL.Path,
		"status", a.code(), "ms", took.Milliseconds(), "request_id", RequestID(r.Context()))
}

func newRequestMetric(r prometheus.Registerer) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "pavane_http_request_seconds",
		Help:    "Time from the head of a request to the end of its answer, by route and status.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"route", "status"})
	r.MustRegister(h)
	return h
}

func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); requestIDForm.MatchString(id) {
		return id
	}
	return randomHex(16)
}

// tracerFor makes no spans of what asks again and again and tells of no saga.
func (s *Server) tracerFor(r *http.Request) *tracing.Tracer {
	switch r.URL.Path {
	case "/livez", "/readyz", "/metrics":
		return nil
	}
	return s.config.Tracer
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) //nolint:errcheck // it never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b)
}

// answer remembers the status.
type answer struct {
	http.ResponseWriter
	status int
}

// WriteHeader keeps the first status that is final.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write means 200 when no status was written before.
func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Flush is there for streams that ask for http.Flusher and do not unwrap.
func (a *answer) Flush() {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	http.NewResponseController(a.ResponseWriter).Flush() //nolint:errcheck // the client is gone
}

// Unwrap is for [http.ResponseController].
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) code() int {
	if a.status == 0 {
		return http.StatusOK
	}
	return a.status
}

// headerOnly takes what the mux wants to say about a request without a route.
type headerOnly struct {
	header http.Header
	status int
}

// Header is where the mux puts Allow.
func (h *headerOnly) Header() http.Header { return h.header }

// Write drops the text; a problem takes its place.
func (h *headerOnly) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader keeps the status.
func (h *headerOnly) WriteHeader(status int) { h.status = status }
