package providersim_test

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
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pavane/internal/providersim"
)

// sim is a simulator and the file of its ledger.
type sim struct {
	t    *testing.T
	url  string
	path string
}

func start(t *testing.T, key string) sim {
	t.Helper()
	s := sim{t: t, path: filepath.Join(t.TempDir(), "ledger")}
	s.open(key)
	return s
}

// open serves the ledger as it is in its file.
func (s *sim) open(key string) {
	s.t.Helper()
	l, err := providersim.OpenLedger(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewServer(providersim.NewServer(l, key, slog.New(slog.NewTextHandler(io.Discard, nil))))
	s.t.Cleanup(func() { server.Close(); l.Close() }) //nolint:errcheck // the test is over
	s.url = server.URL
}

// charge is what the tests look at of an answer.
type charge struct {
	State    string
	Captures int
	Charges  []charge
	Next     int64
	Key      string
}

// do sends a request. A connection that is cut is the status 0.
func (s sim) do(method, path, once, body string, headers ...string) (int, charge) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 300*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, io.NopCloser(strings.NewReader(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Close = true // a second answer must not be taken for that to the next request
	if once != "" {
		req.Header.Set("Idempotency-Key", once)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, charge{}
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	var c charge
	json.NewDecoder(res.Body).Decode(&c) //nolint:errcheck // then it is empty
	return res.StatusCode, c
}

func (s sim) hold(key, token string) (int, charge) {
	s.t.Helper()
	return s.do("POST", "/v1/charges", key+":authorize", fmt.Sprintf(`{"key":%q,"reference":%q,"token":%q,"amount":500,"currency":"EUR"}`, key, key, token))
}

func (s sim) wants(what string, status int, c charge, wantStatus int, wantState string) {
	s.t.Helper()
	if status != wantStatus || c.State != wantState {
		s.t.Errorf("%s: answered %d %q; want %d %q", what, status, c.State, wantStatus, wantState)
	}
}

func TestCharge_EachRequestAgain_AnswersTheSameAndChargesOnce(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	for range 2 {
		code, c := s.hold("a", "tok_ok")
		s.wants("hold", code, c, 201, "held")
	}
	for range 2 {
		code, c := s.do("POST", "/v1/charges/a/capture", "a:capture", "null")
		s.wants("capture", code, c, 200, "captured")
		if c.Captures != 1 {
			t.Errorf("%d captures", c.Captures)
		}
	}
	code, c := s.do("POST", "/v1/charges/a/void", "a:void", "null")
	s.wants("void of what is taken", code, c, 409, "captured")
	code, c = s.hold("b", "tok_refuse")
	s.wants("refused", code, c, 402, "refused")
	code, c = s.do("POST", "/v1/charges/b/capture", "b:capture", "null")
	s.wants("capture of what was refused", code, c, 409, "refused")
}

func TestCharge_KeyUsedForAnotherRequest_IsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	s.hold("a", "tok_ok")
	if code, _ := s.do("POST", "/v1/charges", "a:authorize", `{"key":"a","reference":"a","token":"tok_ok","amount":501,"currency":"EUR"}`); code != 422 {
		t.Errorf("another amount under the same key: %d; want 422", code)
	}
	for name, body := range map[string]string{"no JSON": `{`, "no amount to hold": `{"key":"x"}`, "too long": `{"key":"` + strings.Repeat("x", 1<<17) + `"}`} {
		if code, _ := s.do("POST", "/v1/charges", "x", body); code != 400 {
			t.Errorf("%s: %d; want 400", name, code)
		}
	}
	if code, _ := s.do("POST", "/v1/charges/a/capture", "", "null"); code != 400 {
		t.Errorf("without an Idempotency-Key: %d; want 400", code)
	}
}

func TestVoid_KeyNotSeenYet_RefusesTheLateHold(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	code, c := s.do("POST", "/v1/charges/a/void", "a:void", "null")
	s.wants("void", code, c, 200, "voided")
	code, c = s.hold("a", "tok_ok")
	s.wants("late hold", code, c, 201, "voided")
}

func TestLedger_ProcessDiesWhileItWrites_KeepsWhatWasAnsweredAndNothingElse(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	s.hold("a", "tok_ok")
	s.hold("b", "tok_ok")
	s.do("POST", "/v1/charges/a/capture", "a:capture", "null")
	f, err := os.OpenFile(s.path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(`{"state":"captured","once":"b:capture","key":"b"`)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	s.open("")
	code, c := s.do("GET", "/v1/charges/a", "", "")
	s.wants("a", code, c, 200, "captured")
	code, c = s.do("POST", "/v1/charges/b/void", "b:void", "null")
	s.wants("b", code, c, 200, "voided")
	s.open("")
	code, c = s.do("GET", "/v1/charges/b", "", "")
	s.wants("b after another start", code, c, 200, "voided")
}

func TestList_FromACursor_HasEachChangeInOrder(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	s.hold("a", "tok_ok")
	s.hold("b", "tok_ok")
	s.do("POST", "/v1/charges/a/void", "a:void", "null")
	_, p := s.do("GET", "/v1/charges?after=0&limit=1", "", "")
	_, q := s.do("GET", fmt.Sprintf("/v1/charges?after=%d", p.Next), "", "")
	_, r := s.do("GET", fmt.Sprintf("/v1/charges?after=%d", q.Next), "", "")
	if len(p.Charges) != 1 || p.Charges[0].Key != "b" || len(q.Charges) != 1 || q.Charges[0].State != "voided" || len(r.Charges) != 0 || r.Next != q.Next {
		t.Errorf("pages %+v, %+v, %+v", p, q, r)
	}
}

func TestFaults_EachScript_GoesWrongOnceAndWellAgain(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	s.do("PUT", "/v1/admin/faults", "", `{"late_ms":1000}`)
	for token, first := range map[string]struct {
		status int
		found  int // of the charge, afterwards
	}{
		"tok_fail": {500, 404}, "tok_fail_after_charge": {500, 200}, "tok_lose_answer": {0, 200}, "tok_stall": {0, 404}, "tok_late": {0, 404},
		"tok_garbage": {200, 200}, "tok_twice": {201, 200}, "tok_ok.7": {201, 200},
	} {
		code, _ := s.hold(token, token)
		found, _ := s.do("GET", "/v1/charges/"+token, "", "")
		again, c := s.hold(token, token)
		if code != first.status || found != first.found || again != 201 || c.State != "held" {
			t.Errorf("%s: answered %d, then found %d, then again %d %s; want %+v, then 201 held", token, code, found, again, c.State, first)
		}
	}
	for range 2 {
		if code, _ := s.hold("n", "tok_never"); code != 0 {
			t.Errorf("tok_never was answered with %d", code)
		}
	}
}

func TestFaults_BySwitchAndPercentage_AreInForceUntilTakenBack(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	s.hold("a", "tok_ok")
	if code, _ := s.do("PUT", "/v1/admin/faults", "", `{"down":true}`); code != 200 {
		t.Fatalf("answered %d", code)
	}
	if code, _ := s.do("GET", "/v1/charges/a", "", ""); code != 0 {
		t.Errorf("down, and answered %d", code)
	}
	if code, p := s.do("GET", "/v1/admin/charges", "", ""); code != 200 || len(p.Charges) != 1 {
		t.Errorf("the judge is down, too: %d %+v", code, p)
	}
	s.do("PUT", "/v1/admin/faults", "", `{"refuse_percent":100}`)
	code, c := s.hold("b", "tok_ok")
	s.wants("refused for all", code, c, 402, "refused")
	s.do("PUT", "/v1/admin/faults", "", `{}`)
	code, c = s.hold("c", "tok_ok")
	s.wants("well again", code, c, 201, "held")
	for _, wrong := range []string{`{"refuse_percent":101}`, `{"slow_ms":-1}`, `{"no_such_fault":1}`, `[]`} {
		if code, _ := s.do("PUT", "/v1/admin/faults", "", wrong); code != 400 {
			t.Errorf("%s: %d; want 400", wrong, code)
		}
	}
}

func TestKey_MissingOrWrong_IsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, "secret")
	for header, want := range map[string]int{"": 401, "Bearer other": 401, "Bearer secret": 404} {
		if code, _ := s.do("GET", "/v1/charges/a", "", "", "Authorization", header); code != want {
			t.Errorf("%q: %d; want %d", header, code, want)
		}
	}
}

func TestLedger_ManyAtOnce_ChargesEachKeyOnce(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			s.hold("a", "tok_ok")
			s.do("POST", "/v1/charges/a/capture", "a:capture", "null")
		})
	}
	work.Wait()
	_, p := s.do("GET", "/v1/admin/charges", "", "")
	if len(p.Charges) != 1 || p.Charges[0].Captures != 1 {
		t.Errorf("%+v", p)
	}
}
