package httpapi_test

import (
	"io"
	"log/slog"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"pavane/shared/httpapi"
)

// FuzzRequestHeaders sends headers that become part of answers and logs.
func FuzzRequestHeaders(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "request-1")
	f.Add("00-00000000000000000000000000000000-b7ad6b7169203331-01", "a b\r\nx: y")
	handler := httpapi.New(httpapi.Config{Title: "t", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}).Handler()
	trace := regexp.MustCompile(`^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$`)
	id := regexp.MustCompile(`^[!-~]{1,128}$`)
	f.Fuzz(func(t *testing.T, parent, request string) {
		r := httptest.NewRequest("GET", "/livez", nil)
		r.Header["Traceparent"], r.Header["X-Request-Id"] = []string{parent}, []string{request}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		got := w.Header()
		m := trace.FindStringSubmatch(got.Get("Traceparent"))
		if m == nil || strings.Trim(m[1], "0") == "" || strings.Trim(m[2], "0") == "" {
			t.Fatalf("traceparent %q", got.Get("Traceparent"))
		}
		if own := trace.FindStringSubmatch(parent); own != nil && strings.Trim(own[1], "0") != "" && strings.Trim(own[2], "0") != "" && own[1] != m[1] {
			t.Fatalf("the caller's trace %s is lost: %s", own[1], m[1])
		}
		if !id.MatchString(got.Get("X-Request-Id")) {
			t.Fatalf("request id %q", got.Get("X-Request-Id"))
		}
	})
}
