package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"pavane/internal/leaks"
	"pavane/internal/transcript"
	"pavane/shared/fault"
	"pavane/shared/httpapi"
	"pavane/shared/tracing"
)

func TestMain(m *testing.M) { os.Exit(leaks.Main(m.Run)) }

type order struct {
	SKU      string `json:"sku" minLength:"1" maxLength:"40"`
	Quantity int64  `json:"quantity" minimum:"1" maximum:"1000"`
}

type placeInput struct{ Body order }

type placeOutput struct{ Body order }

// newServer has one operation, POST /v1/orders/{id}, which answers with fail.
func newServer(t *testing.T, fail func() error, checks ...httpapi.Check) (*httpapi.Server, *transcript.Buffer) {
	t.Helper()
	log := &transcript.Buffer{}
	s := httpapi.New(httpapi.Config{
		Title: "Test", Version: "1.0", Addr: "127.0.0.1:0",
		Logger: slog.New(slog.NewTextHandler(log, nil)), Registry: prometheus.NewRegistry(),
		Checks: checks, MaxBodyBytes: 1000,
	})
	httpapi.Register(s, huma.Operation{OperationID: "place", Method: http.MethodPost, Path: "/v1/orders"},
		func(_ context.Context, in *placeInput) (*placeOutput, error) {
			if err := fail(); err != nil {
				return nil, err
			}
			return &placeOutput{Body: in.Body}, nil
		})
	return s, log
}

func ok() error { return nil }

// do sends a request without a socket.
func do(t *testing.T, s *httpapi.Server, method, path, contentType, body string, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Result()
}

// problem checks the form of an answer and returns it.
func problem(t *testing.T, r *http.Response, status int) huma.ErrorModel {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != status || r.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("got %d %s %s, want a problem with %d", r.StatusCode, r.Header.Get("Content-Type"), b, status)
	}
	var p huma.ErrorModel
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	if p.Status != status || p.Title == "" || p.Detail == "" || p.Instance == "" {
		t.Errorf("the problem is not complete: %s", b)
	}
	return p
}

func TestBadRequest_SaysWhatToMend(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, func() error { t.Error("the handler was called"); return nil })
	const good = `{"sku":"a","quantity":1}`
	for name, c := range map[string]struct {
		contentType, body string
		status            int
		want              string
	}{
		"unknown field":      {"application/json", `{"sku":"a","quantity":1,"price":0}`, 422, "body.price"},
		"large and wrong":    {"application/json", `{"sku":"` + strings.Repeat("a", 900) + `"}`, 422, "quantity"},
		"missing field":      {"application/json", `{"sku":"a"}`, 422, "quantity"},
		"negative":           {"application/json", `{"sku":"a","quantity":-1}`, 422, "body.quantity"},
		"overflow":           {"application/json", `{"sku":"a","quantity":9223372036854775808}`, 422, "body.quantity"},
		"not whole":          {"application/json", `{"sku":"a","quantity":1.5}`, 422, "body.quantity"},
		"number with e":      {"application/json", `{"sku":"a","quantity":1e2}`, 422, "quantity"},
		"null":               {"application/json", `null`, 422, "body"},
		"list":               {"application/json", `[]`, 422, "body"},
		"not JSON":           {"application/json", `{"sku":`, 400, "well-formed"},
		"two values":         {"application/json", good + good, 400, "well-formed"},
		"empty":              {"application/json", ``, 400, "body is required"},
		"wrong content type": {"application/x-www-form-urlencoded", good, 415, "application/json"},
		"xml":                {"text/xml", good, 415, "application/json"},
		"oversize":           {"application/json", `{"sku":"` + strings.Repeat("a", 2000) + `"}`, 413, "smaller"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := problem(t, do(t, s, http.MethodPost, "/v1/orders", c.contentType, c.body), c.status)
			text, _ := json.Marshal(p)
			if !strings.Contains(string(text), c.want) {
				t.Errorf("%s does not contain %q", text, c.want)
			}
			if len(text) > 1000 {
				t.Errorf("the answer echoes too much: %d bytes", len(text))
			}
		})
	}
}

func TestBadRequest_ShowsNothingOfTheValue(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, ok)
	for name, body := range map[string]string{
		"a card's number where text belongs": `{"sku":4111111111111111,"quantity":1}`,
		"one that is out of range":           `{"sku":"a","quantity":-4111111111111111}`,
		"text where a number belongs":        `{"sku":"a","quantity":"4111111111111111"}`,
		"a truth":                            `{"sku":true,"quantity":1}`,
	} {
		res := do(t, s, http.MethodPost, "/v1/orders", "application/json", body)
		p := problem(t, res, http.StatusUnprocessableEntity)
		text, err := json.Marshal(p)
		if err != nil || len(p.Errors) == 0 || strings.Contains(string(text), "4111") || strings.Contains(string(text), `"value"`) {
			t.Errorf("%s: %s, %v; want where and what, and no value", name, text, err)
		}
	}
	document, err := io.ReadAll(do(t, s, http.MethodGet, "/openapi.json", "", "").Body)
	if err != nil || !strings.Contains(string(document), `"ErrorDetail"`) || strings.Contains(string(document), "The value at the given location") {
		t.Errorf("the document promises values of wrong fields: %s, %v", document, err)
	}
}

func TestOversizeBodyWithoutLength_Is413(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, ok)
	addr := serve(t, s)
	body := io.MultiReader(strings.NewReader(`{"sku":"`), strings.NewReader(strings.Repeat("a", 5000))) // chunked
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/v1/orders", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	problem(t, send(t, r), http.StatusRequestEntityTooLarge)
}

func TestNoRoute_IsAProblem(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, ok)
	problem(t, do(t, s, http.MethodGet, "/nowhere", "", ""), http.StatusNotFound)
	r := do(t, s, http.MethodDelete, "/v1/orders", "", "")
	if p := problem(t, r, http.StatusMethodNotAllowed); r.Header.Get("Allow") != "POST" || !strings.Contains(p.Detail, "POST") {
		t.Errorf("Allow %q, %+v", r.Header.Get("Allow"), p)
	}
	for _, path := range []string{"/docs", "/schemas/Order.json", "/openapi.yaml"} {
		problem(t, do(t, s, http.MethodGet, path, "", ""), http.StatusNotFound)
	}
}

// slow is an error that knows how long to wait.
type slow struct{ error }

func (slow) RetryAfter() time.Duration { return 2500 * time.Millisecond }
func (s slow) Unwrap() error           { return s.error }

func TestFaultClass_DecidesTheStatus(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err        error
		status     int
		shown      bool // the text of the error goes to the caller
		retryAfter string
	}{
		"invalid":           {fault.Invalid("hush"), 422, true, ""},
		"wrapped invalid":   {fmt.Errorf("outer: %w", fault.Invalid("hush")), 422, true, ""},
		"not found":         {fault.NotFound("hush"), 404, true, ""},
		"conflict":          {fault.Conflict("hush"), 409, true, ""},
		"unavailable":       {fault.Unavailable("hush"), 503, false, "1"},
		"unavailable, long": {slow{fault.Unavailable("hush")}, 503, false, "3"},
		"deadline":          {fmt.Errorf("hush: %w", context.DeadlineExceeded), 503, false, "1"},
		"permanent":         {fault.Permanent("hush"), 500, false, ""},
		"unknown":           {errors.New("hush"), 500, false, ""},
		"own status":        {huma.Error403Forbidden("hush"), 403, true, ""},
		"own 500":           {huma.Error500InternalServerError("hush", errors.New("hush")), 500, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, log := newServer(t, func() error { return c.err })
			r := do(t, s, http.MethodPost, "/v1/orders", "application/json", `{"sku":"a","quantity":1}`)
			p := problem(t, r, c.status)
			text, _ := json.Marshal(p)
			if got := strings.Contains(string(text), "hush"); got != c.shown {
				t.Errorf("shown = %v in %s", got, text)
			}
			if got := r.Header.Get("Retry-After"); got != c.retryAfter {
				t.Errorf("Retry-After %q, want %q", got, c.retryAfter)
			}
			if c.status >= 500 && !strings.Contains(log.String(), "hush") {
				t.Errorf("the reason is not in the log: %s", log.String())
			}
		})
	}
}

func TestHandlerOutsideTheWrapper_500_ShowsNothingInside(t *testing.T) {
	t.Parallel()
	s, log := newServer(t, ok)
	huma.Get(s.API(), "/bare", func(context.Context, *struct{}) (*struct{}, error) { return nil, errors.New("hush") })
	p := problem(t, do(t, s, http.MethodGet, "/bare", "", ""), http.StatusInternalServerError)
	if text, _ := json.Marshal(p); strings.Contains(string(text), "hush") || !strings.Contains(log.String(), "hush") {
		t.Errorf("answer %s, log %s", text, log.String())
	}
}

func TestPanic_IsA500AndTheServerGoesOn(t *testing.T) {
	t.Parallel()
	s, log := newServer(t, func() error { panic("boom") })
	s.Handle("GET /late", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half")
		panic("late")
	}))
	addr := serve(t, s)
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/v1/orders", strings.NewReader(`{"sku":"a","quantity":1}`))
	r.Header.Set("Content-Type", "application/json")
	if p := problem(t, send(t, r), http.StatusInternalServerError); strings.Contains(p.Detail, "boom") {
		t.Errorf("it shows the inside: %s", p.Detail)
	}
	if !strings.Contains(log.String(), "boom") || !strings.Contains(log.String(), "server_test.go") {
		t.Errorf("the log lacks the panic or its stack: %s", log.String())
	}
	if _, err := get(t, addr, "/late"); err == nil {
		t.Error("an answer that broke in the middle looks whole")
	}
	if body, err := get(t, addr, "/livez"); err != nil || body != "ok\n" {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestReadyz_NamesTheFailingCheck_LivezAsksNobody(t *testing.T) {
	t.Parallel()
	bad := httpapi.Check{Name: "kafka", Probe: func(context.Context) error { return errors.New("no route") }}
	panics := httpapi.Check{Name: "disk", Probe: func(context.Context) error { panic("boom") }}
	good := httpapi.Check{Name: "database", Probe: func(context.Context) error { return nil }}

	s, _ := newServer(t, ok, good, bad, panics)
	r := do(t, s, http.MethodGet, "/readyz", "", "")
	body, _ := io.ReadAll(r.Body)
	want := "[+]not-stopping ok\n[+]database ok\n[-]kafka failed: no route\n[-]disk failed: the check panicked: boom\nreadyz check failed\n"
	if r.StatusCode != 503 || string(body) != want {
		t.Errorf("got %d %q", r.StatusCode, body)
	}
	if r := do(t, s, http.MethodGet, "/livez", "", ""); r.StatusCode != 200 {
		t.Errorf("livez %d", r.StatusCode)
	}

	s, _ = newServer(t, ok, good)
	r = do(t, s, http.MethodGet, "/readyz?verbose", "", "")
	body, _ = io.ReadAll(r.Body)
	if want := "[+]not-stopping ok\n[+]database ok\nreadyz check passed\n"; r.StatusCode != 200 || string(body) != want {
		t.Errorf("got %d %q", r.StatusCode, body)
	}
	r = do(t, s, http.MethodGet, "/readyz", "", "")
	body, _ = io.ReadAll(r.Body)
	if r.StatusCode != 200 || string(body) != "ok\n" {
		t.Errorf("got %d %q", r.StatusCode, body)
	}
}

func TestRequestIdentity_IsKeptWhenWellFormedAndMadeWhenNot(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, ok)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	var seen []string
	s.Handle("GET /who", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = []string{httpapi.RequestID(r.Context()), tracing.TraceParent(r.Context())}
	}))
	r := do(t, s, http.MethodGet, "/who", "", "", "X-Request-Id", "abc-1", "Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	if r.Header.Get("X-Request-Id") != "abc-1" || seen[0] != "abc-1" {
		t.Errorf("request id %q, in the handler %q", r.Header.Get("X-Request-Id"), seen[0])
	}
	tp := r.Header.Get("Traceparent")
	if !strings.HasPrefix(tp, "00-"+trace+"-") || strings.Contains(tp, "00f067aa0ba902b7") || seen[1] != tp {
		t.Errorf("traceparent %q, in the handler %q", tp, seen[1])
	}
	for _, bad := range []string{"", "x y", "a\"b", strings.Repeat("a", 129)} {
		r = do(t, s, http.MethodGet, "/who", "", "", "X-Request-Id", bad, "Traceparent", "00-"+strings.Repeat("0", 32)+"-00f067aa0ba902b7-01")
		if id := r.Header.Get("X-Request-Id"); id == bad || len(id) != 32 {
			t.Errorf("request id %q became %q", bad, id)
		}
		if tp := r.Header.Get("Traceparent"); len(tp) != 55 || strings.Contains(tp, strings.Repeat("0", 32)) {
			t.Errorf("traceparent %q", tp)
		}
	}
}

func TestOpenAPI_IsVersion31AndOffline(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, ok)
	r := do(t, s, http.MethodGet, "/openapi.json", "", "")
	var doc struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	if err := json.NewDecoder(r.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || doc.Paths["/v1/orders"]["post"] == nil {
		t.Errorf("got %+v", doc)
	}
}

func TestMetrics_CountByRouteNotByPath(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, ok)
	s.Handle("GET /v1/orders/{id}", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	do(t, s, http.MethodGet, "/v1/orders/o-1", "", "")
	do(t, s, http.MethodGet, "/v1/orders/o-2", "", "")
	do(t, s, http.MethodGet, "/secret/o-3", "", "")
	r := do(t, s, http.MethodGet, "/metrics", "", "")
	b, _ := io.ReadAll(r.Body)
	for _, want := range []string{
		`pavane_http_request_seconds_count{route="GET /v1/orders/{id}",status="200"} 2`,
		`pavane_http_request_seconds_count{route="none",status="404"} 1`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Contains(string(b), "o-3") {
		t.Error("a path became a label")
	}
}

// serve runs s on a socket until the test ends, and returns its address.
func serve(t *testing.T, s *httpapi.Server) string {
	t.Helper()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addr()
}

// send uses a connection of its own.
func send(t *testing.T, r *http.Request) *http.Response {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func get(t *testing.T, addr, path string) (string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// within polls until ok, for 5 s at most.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not within 5 s: %s", what)
		case <-tick.C:
		}
	}
}
