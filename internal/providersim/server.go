// Package providersim owns a simulated card provider: the HTTP API that
// payment-svc calls, a durable ledger of its own, which judges whether each order
// was charged as it should be, and faults on demand.
//
// The API of the provider. A charge is addressed by a key that the shop chose, and
// every POST carries an Idempotency-Key. 402 and 409 carry the charge, too.
//
//	POST /v1/charges               {key, reference, token, amount, currency}: hold; 201, 402 refused, 422 the key was used for another request
//	POST /v1/charges/{key}/capture take what is held; 409 when nothing is
//	POST /v1/charges/{key}/void    give it back, or never hold it: also of a key that is not known yet; 409 when it is taken
//	GET  /v1/charges/{key}         the charge, or 404
//	GET  /v1/charges?after=N       charges changed after N, oldest change first, and the next N
//
// What a person or a chaos run sets and reads. Faults do not touch these, and are
// forgotten when the process ends.
//
//	GET  /v1/admin/faults          the faults in force
//	PUT  /v1/admin/faults          all faults, those left out are none: {"down":true} {"slow_ms":500} {"refuse_percent":10}
//	                               {"stall_percent":..} {"fail_percent":..} {"fail_after_percent":..} {"lose_percent":..}
//	                               {"twice_percent":..} {"late_percent":..,"late_ms":..} {"garbage_percent":..} {"seed":..}
//	GET  /v1/admin/charges         the whole ledger
//	GET  /livez                    200
//
// Scripts by card token; what follows a dot (tok_late.17) tells one card from the
// next: tok_ok, tok_refuse, tok_stall (no answer, nothing done), tok_never (so each
// time a hold is asked for), tok_fail (500, nothing done), tok_fail_after_charge
// (500, but done), tok_lose_answer (done, connection cut), tok_twice (answered two
// times), tok_late (done and answered after late_ms), tok_garbage (done, the answer
// cannot be read). All but tok_refuse and tok_never go wrong on the first request
// of each kind, and well when it is made again.
package providersim

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"
)

const (
	maxBody = 64 << 10
	maxPage = 1000
	maxMS   = 10 * 60 * 1000
)

// Server answers as the provider would.
type Server struct {
	ledger *Ledger
	key    string
	logger *slog.Logger
	faults *faults
	mux    *http.ServeMux
}

// NewServer returns a handler over a ledger. With a key, callers of the provider's
// API must show it.
func NewServer(ledger *Ledger, key string, logger *slog.Logger) *Server {
	s := &Server{ledger: ledger, key: key, logger: logger, faults: newFaults(), mux: http.NewServeMux()}
	s.mux.HandleFunc("POST /v1/charges", s.api(s.authorize))
	s.mux.HandleFunc("POST /v1/charges/{key}/capture", s.api(s.settle("capture", ledger.Capture)))
	s.mux.HandleFunc("POST /v1/charges/{key}/void", s.api(s.settle("void", ledger.Void)))
	s.mux.HandleFunc("GET /v1/charges/{key}", s.api(func(w http.ResponseWriter, r *http.Request) {
		c, err := ledger.Find(r.PathValue("key"))
		write(w, answerOf(c, err, http.StatusOK))
	}))
	s.mux.HandleFunc("GET /v1/charges", s.api(s.list))
	s.mux.HandleFunc("GET /v1/admin/faults", func(w http.ResponseWriter, _ *http.Request) { write(w, reply{http.StatusOK, s.faults.get()}) })
	s.mux.HandleFunc("PUT /v1/admin/faults", s.putFaults)
	s.mux.HandleFunc("GET /v1/admin/charges", func(w http.ResponseWriter, _ *http.Request) {
		write(w, reply{http.StatusOK, page{Charges: ledger.Changes(0, math.MaxInt)}})
	})
	s.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { write(w, reply{http.StatusOK, "ok"}) })
	return s
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Read to its end: only then is the server told of a client that gives up.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		write(w, problem(http.StatusBadRequest, err))
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.mux.ServeHTTP(w, r)
}

// SetFaults replaces the faults in force, as PUT /v1/admin/faults does.
func (s *Server) SetFaults(f Faults) { s.faults.put(f) }

// api lets a request of the provider's API through, unless it is down.
func (s *Server) api(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f := s.faults.get()
		wait(r, time.Duration(f.SlowMS)*time.Millisecond)
		if s.faults.get().Down {
			cut()
		}
		shown := r.Header.Get("Authorization")
		if s.key != "" && subtle.ConstantTimeCompare([]byte(shown), []byte("Bearer "+s.key)) != 1 {
			write(w, problem(http.StatusUnauthorized, errors.New("the key is missing or wrong")))
			return
		}
		next(w, r)
	}
}

func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	var in Intent
	once, err := idempotencyKey(r)
	if err == nil {
		err = json.NewDecoder(r.Body).Decode(&in)
	}
	if err == nil && (in.Key == "" || in.Reference == "" || in.Token == "" || in.Amount < 0 || len(in.Currency) != 3) {
		err = errors.New("want key, reference, token, an amount from 0 on and a currency")
	}
	if err != nil {
		write(w, problem(http.StatusBadRequest, err))
		return
	}
	s.act(w, r, s.faults.choose("authorize", in.Key, in.Token), func(m mode) reply {
		refusal := ""
		if m == refusing {
			refusal = "insufficient funds"
		}
		c, err := s.ledger.Hold(once, in, refusal)
		return answerOf(c, err, http.StatusCreated)
	})
}

// settle answers a capture or a void.
func (s *Server) settle(op string, do func(once, key string) (Charge, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		once, err := idempotencyKey(r)
		if err != nil {
			write(w, problem(http.StatusBadRequest, err))
			return
		}
		key := r.PathValue("key")
		known, _ := s.ledger.Find(key) //nolint:errcheck // then no script goes with it
		s.act(w, r, s.faults.choose(op, key, known.token), func(mode) reply {
			c, err := do(once, key)
			return answerOf(c, err, http.StatusOK)
		})
	}
}

// act does what was asked for, with what goes wrong before and after it. A client
// that gives up does not stop it.
func (s *Server) act(w http.ResponseWriter, r *http.Request, m mode, do func(mode) reply) {
	if m != soundly {
		s.logger.Info("fault", "request", r.Method+" "+r.URL.Path, "mode", int(m))
	}
	switch m {
	case stalling:
		wait(r, s.faults.get().stall())
		cut()
	case failing:
		write(w, problem(http.StatusInternalServerError, errors.New("failed, and nothing was done")))
		return
	case late:
		time.Sleep(s.faults.get().late())
	case soundly, refusing, failingLate, losing, twice, garbling:
	}
	out := do(m)
	switch m {
	case failingLate:
		write(w, problem(http.StatusInternalServerError, errors.New("failed, after it was done")))
	case losing:
		cut()
	case garbling:
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<html>it went well") //nolint:errcheck // nobody reads it
	case twice:
		write(w, out)
		again(w, out)
	case soundly, refusing, stalling, failing, late:
		write(w, out)
	}
}

type page struct {
	Charges []Charge `json:"charges"`
	Next    int64    `json:"next"`
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		after = 0
	}
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil || limit < 1 || limit > maxPage {
		limit = maxPage
	}
	p := page{Charges: s.ledger.Changes(after, limit), Next: after}
	if n := len(p.Charges); n > 0 {
		p.Next = p.Charges[n-1].Changed
	}
	write(w, reply{http.StatusOK, p})
}

func (s *Server) putFaults(w http.ResponseWriter, r *http.Request) {
	var f Faults
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(&f)
	for _, p := range []int{f.RefusePercent, f.StallPercent, f.FailPercent, f.FailAfterPercent, f.LosePercent, f.TwicePercent, f.LatePercent, f.GarbagePercent} {
		if err == nil && (p < 0 || p > 100) {
			err = fmt.Errorf("%d percent: want 0 to 100", p)
		}
	}
	for _, ms := range []int{f.SlowMS, f.LateMS, f.StallMS} {
		if err == nil && (ms < 0 || ms > maxMS) {
			err = fmt.Errorf("%d milliseconds: want 0 to %d", ms, maxMS)
		}
	}
	if err != nil {
		write(w, problem(http.StatusBadRequest, fmt.Errorf("faults: %w", err)))
		return
	}
	s.faults.put(f)
	s.logger.Info("faults", "set", f)
	write(w, reply{http.StatusOK, f})
}

func idempotencyKey(r *http.Request) (string, error) {
	if once := r.Header.Get("Idempotency-Key"); once != "" {
		return once, nil
	}
	return "", errors.New("the Idempotency-Key is missing")
}

// reply is a status and what is written as JSON.
type reply struct {
	status int
	body   any
}

func answerOf(c Charge, err error, status int) reply {
	switch {
	case errors.Is(err, errNoCharge):
		return problem(http.StatusNotFound, err)
	case errors.Is(err, errReused):
		return problem(http.StatusUnprocessableEntity, err)
	case errors.Is(err, errState):
		return reply{http.StatusConflict, c}
	case err != nil:
		return problem(http.StatusInternalServerError, err)
	case c.State == Refused && status == http.StatusCreated:
		return reply{http.StatusPaymentRequired, c}
	}
	return reply{status, c}
}

func problem(status int, err error) reply {
	return reply{status, map[string]any{"status": status, "title": http.StatusText(status), "detail": err.Error()}}
}

func write(w http.ResponseWriter, a reply) {
	body, err := json.Marshal(a.body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.status)
	w.Write(body) //nolint:errcheck // the client is gone
}

// again writes a whole second answer behind the first, on the same connection.
func again(w http.ResponseWriter, a reply) {
	body, err := json.Marshal(a.body)
	if err != nil {
		return
	}
	c := http.NewResponseController(w)
	c.Flush() //nolint:errcheck // the client is gone
	conn, _, err := c.Hijack()
	if err != nil {
		return
	}
	//nolint:errcheck // as above
	defer conn.Close()
	//nolint:errcheck // as above
	fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\n\r\n%s", a.status, http.StatusText(a.status), len(body), body)
}

// cut ends the connection without an answer.
func cut() { panic(http.ErrAbortHandler) } // no error: net/http asks for it

// wait waits, but not for a client that has gone.
func wait(r *http.Request, d time.Duration) {
	if d == 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}
