package main

import (
	"context"
	"net/http"
	"strings"
	"testing"
)

// answer asks without following where it leads.
func answer(t *testing.T, url string) (*http.Response, error) {
	t.Helper()
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err == nil {
		res.Body.Close() //nolint:errcheck // only read
	}
	return res, err
}

func TestOnce_LeadsOnOnceAndToldByNobodyElse(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const page = "http://127.0.0.1:8080/#operator=secret"
	url, err := once(ctx, page)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(url, "secret") {
		t.Errorf("the address %s bears the token", url)
	}
	if res, err := answer(t, url+"x"); err != nil || res.StatusCode != http.StatusGone {
		t.Errorf("another address: %v, %v", res, err)
	}
	res, err := answer(t, url)
	if err != nil || res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != page {
		t.Fatalf("first: %v, %v", res, err)
	}
	if res, err := answer(t, url); err == nil && res.StatusCode != http.StatusGone {
		t.Errorf("second: %d, Location %q", res.StatusCode, res.Header.Get("Location"))
	}
}
