package provider

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"
	"time"
)

// answers is a provider's side of the wire with one answer for everything.
type answers struct {
	status int
	body   []byte
}

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.status, Body: io.NopCloser(bytes.NewReader(a.body)), Header: http.Header{}, Request: r}, nil
}

// FuzzAnswers takes any answer: money must never be taken for held, captured or
// free on an answer that does not say so of the key asked for.
func FuzzAnswers(f *testing.F) {
	f.Add(200, []byte(`{"key":"k","state":"captured","amount":5,"currency":"EUR"}`))
	f.Add(201, []byte(`{"key":"k","state":"held"}`))
	f.Add(404, []byte(``))
	f.Add(402, []byte(`{"key":"other","state":"refused"}`))
	f.Add(503, []byte(`<html>`))
	f.Add(200, []byte(`{"charges":[{"key":"k","state":"held"}],"next":9}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		c := New(Config{URL: "http://provider.test", Timeout: time.Minute})
		c.http.Transport = answers{status, body}
		got, err := c.Find(context.Background(), "k")
		if err == nil && (got.Key != "k" || got.State == None && status != http.StatusNotFound || got.State == "") {
			t.Fatalf("%d %q is taken for %+v", status, body, got)
		}
		got, err = c.Void(context.Background(), "k")
		if err == nil && (got.Key != "k" || got.State == None || !bytes.Contains(body, []byte(got.State))) && !bytes.Contains(body, []byte(`\u`)) {
			t.Fatalf("%d %q is taken for %+v", status, body, got)
		}
		if err != nil && Certain(err) && (status < 400 || status > 499) {
			t.Fatalf("%d tells that nothing was done: %v", status, err)
		}
		if _, next, err := c.Changes(context.Background(), 5, 10); err == nil && (next < 5 || status != http.StatusOK) {
			t.Fatalf("%d moves the cursor to %d", status, next)
		}
	})
}
