// Package control owns the way by which `pavane break` and the page reach a
// running demo, or the stack of compose.yaml: a server that takes orders from who
// knows its token, and the client that has address and token from a state file.
package control

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"pavane/cmd/pavane/internal/chaos"
	"pavane/cmd/pavane/internal/fault"
	"pavane/cmd/pavane/internal/stack"
)

// beginLimit and healLimit bound one fault's coming and going.
const (
	beginLimit = 30 * time.Second
	healLimit  = 60 * time.Second
)

var errStopping = errors.New("the demo is stopping")

// order is what a client asks for.
type order struct {
	fault.Spec
	For time.Duration `json:"for_ns"` // 0: until it is healed
	// Detached: it is healed after its time whether or not the client still waits,
	// and the answer comes when it has begun.
	Detached bool `json:"detached"`
}

// said is one line of an answer.
type said struct {
	Text   string        `json:"text,omitempty"`
	Error  string        `json:"error,omitempty"`
	Report *chaos.Report `json:"report,omitempty"` // of a run of chaos: the last line
}

// Server takes orders.
type Server struct {
	driver   fault.Driver
	token    string
	http     *http.Server
	listener net.Listener

	whole context.Context // ends with Close
	end   context.CancelFunc

	mu       sync.Mutex
	standing map[string]*standing // by spec
	notes    []note               // the last ones
	chaos    chaosRun
}

// standing is a fault that was begun and is not healed.
type standing struct {
	fault.Fault
	name  string        // of the fault
	begun chan struct{} // closed when Begin has ended; nobody heals it before
	since time.Time
	until time.Time // when it is healed; zero: when somebody says so

	resource string   // what no other lasting fault may be about meanwhile; empty: it does not last
	mending  *mending // nil: nobody is at it; guarded by the server's lock
}

// mending is a try to heal a fault.
type mending struct {
	over chan struct{} // closed when what follows says what came of it
	did  string
	err  error
}

// Listen takes a port, so that it and the token of those who may give orders can be
// told to what is started before there is something to break. Who asks waits
// until Serve.
func Listen(addr, token string) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	s := &Server{token: token, listener: l, standing: map[string]*standing{}}
	s.whole, s.end = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /faults", s.show)
	mux.HandleFunc("POST /faults", s.begin)
	mux.HandleFunc("DELETE /faults", s.heal)
	mux.HandleFunc("POST /chaos", s.beginChaos)
	mux.HandleFunc("DELETE /chaos", s.endChaos)
	s.http = &http.Server{Handler: s.guard(mux), ReadHeaderTimeout: 5 * time.Second}
	return s, nil
}

// Serve begins to take orders against a system. Chaos breaks it by a seed; nil:
// there is none.
func (s *Server) Serve(driver fault.Driver, chaos Chaos) {
	s.driver, s.chaos.run = driver, chaos
	go s.http.Serve(s.listener) //nolint:errcheck // it ends with Close
}

// Control is for the state file.
func (s *Server) Control() stack.Control {
	return stack.Control{URL: "http://" + s.listener.Addr().String(), Token: s.token}
}

// Close ends the server, and returns when chaos has healed what it has broken; an
// error says what may still be broken. What stands goes down with the demo.
func (s *Server) Close(ctx context.Context) error {
	s.end()
	err := s.awaitHealed(ctx)
	s.listener.Close() //nolint:errcheck // http closes it, too, once it serves
	s.http.Close()     //nolint:errcheck // nothing is lost
	return err
}

// guard lets in who knows the token. A page in a browser cannot: it may not set
// this header across origins.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+s.token)) != 1 {
			http.Error(w, "the token of state.json is missing", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// begin causes a fault. One with a time is healed after it, or as soon as the
// client is gone; the answer goes on until then.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) {
	var o order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.driver.Missing(r.Context(), o.Kind); err != nil {
		tell(w, "", err)
		return
	}
	f, err := s.take(o)
	if err != nil {
		tell(w, "", err)
		return
	}
	whole := context.WithoutCancel(r.Context()) // what was begun is ended
	did, err := s.start(whole, f)
	tell(w, did, err)
	if err != nil || f.resource == "" {
		return
	}
	switch {
	case o.For == 0: // it stands until it is healed
	case o.Detached:
		go s.mendAfter(f, o.For)
	default:
		select {
		case <-time.After(o.For):
		case <-r.Context().Done():
		}
		did, err := s.mend(whole, f)
		tell(w, did, err)
	}
}

// mendAfter heals a fault whose client does not wait for it. At the end of the
// demo it goes down with it.
func (s *Server) mendAfter(f *standing, length time.Duration) {
	select {
	case <-time.After(length):
		s.mend(context.WithoutCancel(s.whole), f) //nolint:errcheck // it is noted
	case <-s.whole.Done():
	}
}

// take notes a fault that is about to begin. Two on one resource would heal each
// other.
func (s *Server) take(o order) (*standing, error) {
	f, err := fault.New(o.Spec, s.driver)
	if err != nil {
		return nil, err
	}
	st := &standing{Fault: f, name: o.String(), begun: make(chan struct{}), since: time.Now()}
	if k, _ := fault.Find(o.Kind); k.Most > 0 {
		st.resource = o.Resource()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.standing {
		if other.name == st.name || other.resource != "" && other.resource == st.resource {
			return nil, fmt.Errorf("%s is broken already, by %s; `pavane heal` undoes it", o.Resource(), other.name)
		}
	}
	if s.whole.Err() != nil {
		return nil, errStopping
	}
	if s.chaos.running() {
		return nil, fmt.Errorf("%s has to wait: chaos is under way, and two faults on one thing could not be told apart", o.Spec)
	}
	if o.For > 0 {
		st.until = st.since.Add(o.For)
	}
	s.standing[st.name] = st
	return st, nil
}

// start begins a fault that was taken. What is left of one that failed is healed at
// once; when that fails, too, it stands as any other.
func (s *Server) start(ctx context.Context, f *standing) (did string, err error) {
	did, err = s.cause(ctx, f)
	switch {
	case f.resource == "": // it is over
		s.drop(f)
	case err != nil:
		_, left := s.mend(ctx, f)
		err = errors.Join(err, left)
	}
	return did, err
}

func (s *Server) cause(ctx context.Context, f *standing) (did string, err error) {
	defer close(f.begun)
	ctx, cancel := context.WithTimeout(ctx, beginLimit)
	defer cancel()
	did, err = f.Begin(ctx)
	s.note(f.name, did, err)
	return did, err
}

func (s *Server) drop(f *standing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.standing, f.name)
}

// claim returns the try to heal a fault that is under way, and whether it is the
// caller's to make; nil: the fault stands no more.
func (s *Server) claim(f *standing) (m *mending, ours bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.standing[f.name] != f { // another one may bear its name by now
		return nil, false
	}
	if f.mending == nil {
		f.mending, ours = &mending{over: make(chan struct{})}, true
	}
	return f.mending, ours
}

// mend heals a standing fault, or waits for who is at it; one that was healed
// before is no error.
func (s *Server) mend(ctx context.Context, f *standing) (did string, err error) {
	select {
	case <-f.begun:
	case <-ctx.Done():
		return "", fmt.Errorf("heal %s, which is still beginning: %w", f.name, ctx.Err())
	}
	m, ours := s.claim(f)
	if m == nil {
		return "", nil
	}
	if ours {
		s.try(ctx, f, m)
	}
	select {
	case <-m.over:
		return m.did, m.err
	case <-ctx.Done():
		return "", fmt.Errorf("heal %s, which somebody else is still at: %w", f.name, ctx.Err())
	}
}

// try heals a fault. One that it cannot heal goes on standing, for another try.
func (s *Server) try(ctx context.Context, f *standing, m *mending) {
	defer close(m.over)
	ctx, cancel := context.WithTimeout(ctx, healLimit)
	defer cancel()
	m.did, m.err = f.Heal(ctx)
	if errors.Is(m.err, fault.ErrMissed) {
		m.did, m.err = m.err.Error(), nil
	}
	s.note(f.name, joinNonEmpty("healed", m.did), m.err)
	if m.err == nil {
		s.drop(f)
		return
	}
	m.err = fmt.Errorf("heal %s: %w; it stands, `pavane heal` tries again", f.name, m.err)
	s.mu.Lock()
	defer s.mu.Unlock()
	f.mending = nil
}

// heal heals all that stands, or the one that is named.
func (s *Server) heal(w http.ResponseWriter, r *http.Request) {
	some := false
	err := s.mendAll(context.WithoutCancel(r.Context()), r.URL.Query().Get("name"), func(name string) {
		some = true
		tell(w, "healed: "+name, nil)
	})
	if err != nil {
		tell(w, "", err)
	} else if !some {
		tell(w, "nothing was broken", nil)
	}
}

// Heal heals all that stands: for a system that outlives the server.
func (s *Server) Heal(ctx context.Context) error { return s.mendAll(ctx, "", func(string) {}) }

// mendAll heals all that stands, or the one of a name.
func (s *Server) mendAll(ctx context.Context, only string, healed func(name string)) error {
	s.mu.Lock()
	all := slices.SortedFunc(maps.Values(s.standing), func(a, b *standing) int { return cmp.Compare(a.name, b.name) })
	s.mu.Unlock()
	var errs []error
	for _, f := range all {
		if only != "" && only != f.name {
			continue
		}
		_, err := s.mend(ctx, f)
		errs = append(errs, err)
		if err == nil {
			healed(f.name)
		}
	}
	return errors.Join(errs...)
}

// tell writes a line of an answer at once.
func tell(w http.ResponseWriter, text string, err error) {
	line := said{Text: text}
	if err != nil {
		line.Error = err.Error()
	}
	json.NewEncoder(w).Encode(line)       //nolint:errcheck // a client that is gone is noticed elsewhere
	http.NewResponseController(w).Flush() //nolint:errcheck // as above
}
