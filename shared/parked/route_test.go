package parked_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pavane/shared/httpapi"
	"pavane/shared/parked"
)

const token = "a token of operators"

// route serves what waits, and returns how to ask it.
func (b *bench) route() func(method, path, body, token string) (int, string) {
	s := httpapi.New(httpapi.Config{Title: "bench", Version: "1.0.0", Logger: slog.New(slog.DiscardHandler)})
	parked.Register(s, b.db, token)
	return func(method, path, body, token string) (int, string) {
		r := httptest.NewRequestWithContext(b.t.Context(), method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(httpapi.OperatorHeader, token)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
}

func TestRoute_ListsByCauseAndShowsAKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.deliver(b.record("a", 1, true), b.record("a", 2, false), b.record("b", 1, true), b.record("gap", 3, false))
	ask := b.route()
	code, body := ask("GET", "/v1/parked?limit=1", "", "")
	var list struct {
		Groups []parked.Group `json:"groups"`
	}
	must(t, json.Unmarshal([]byte(body), &list))
	if code != 200 || len(list.Groups) != 2 || list.Groups[0].Count != 2 || len(list.Groups[0].Keys) != 1 || list.Groups[1].Cause != "gap" {
		t.Errorf("%d %s; want two faults, one of them shown, and a gap", code, body)
	}
	code, body = ask("GET", "/v1/parked/records?key=a", "", "")
	if code != 200 || strings.Count(body, `"payload"`) != 2 || !strings.Contains(body, "ce_sequence") || !strings.Contains(body, `"moves":[]`) {
		t.Errorf("%d %s; want both records of a", code, body)
	}
	if code, body = ask("GET", "/v1/parked/records?key=nobody", "", ""); code != 200 || !strings.Contains(body, `"records":[]`) {
		t.Errorf("a key nobody knows: %d %s", code, body)
	}
}

func TestRoute_Redrive_LetsTheChosenGoForOperatorsOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.deliver(b.record("a", 1, true), b.record("b", 1, true), b.record("c", 1, true), b.record("gap", 3, false))
	b.mend(true)
	ask := b.route()
	redrive := func(body, token string) (int, parked.Moved) {
		code, answer := ask("POST", "/v1/parked/redrive", body, token)
		var m parked.Moved
		must(t, json.Unmarshal([]byte(answer), &m))
		b.deliver()
		return code, m
	}
	for _, wrong := range []string{"", "guess"} {
		if code, _ := redrive(`{"who":"ada","why":"mended"}`, wrong); code != http.StatusForbidden || len(b.effects("a")) != 0 {
			t.Errorf("with the token %q: %d", wrong, code)
		}
	}
	for _, bad := range []string{`{"who":"ada"}`, `{"why":"mended"}`, `{"who":"ada","why":"mended","cause":"bad luck"}`} {
		if code, _ := redrive(bad, token); code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", bad, code)
		}
	}
	for _, c := range []struct {
		body string
		want parked.Moved
	}{
		{`{"key":"a","source":"` + source + `","who":"ada","why":"mended"}`, parked.Moved{Keys: 1, Records: 1}},
		{`{"key":"a","source":"` + source + `","who":"ada","why":"mended"}`, parked.Moved{}},
		{`{"key":"","who":"ada","why":"mended"}`, parked.Moved{}},
		{`{"cause":"fault","who":"ada","why":"mended"}`, parked.Moved{Keys: 2, Records: 2}},
		{`{"who":"ada","why":"mended"}`, parked.Moved{Left: 1}},
	} {
		if code, got := redrive(c.body, token); code != 200 || got != c.want {
			t.Errorf("%s: %d %+v; want %+v", c.body, code, got, c.want)
		}
	}
	for _, key := range []string{"a", "b", "c"} {
		if got := b.effects(key); len(got) != 1 {
			t.Errorf("effects of %s: %v, want one", key, got)
		}
	}
}
