package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"pavane/cmd/pavane/internal/chaos"
)

const (
	// keptLines is how many of the last lines of a run are told.
	keptLines = 40
	// toldLines is how many lines of a run wait for a client that is slow.
	toldLines = 64
)

// ChaosOrder is what a client asks a run of chaos to be. What is zero, but for the
// seed, is left to the one who runs it.
type ChaosOrder struct {
	Seed  uint64        `json:"seed"`
	For   time.Duration `json:"for_ns"`
	Every time.Duration `json:"every_ns"`
	Rate  float64       `json:"rate"`   // orders per second
	Kinds []string      `json:"faults"` // to deal out
	// Attached: the client waits. The answer tells each step and ends with the
	// report; when the client is gone the run ends.
	Attached bool `json:"attached"`
}

// verdict is what a run came to, in short.
type verdict struct {
	OK       bool     `json:"ok"`
	Failures []string `json:"failures"` // why it is not
	Summary  []string `json:"summary"`
}

// Chaos breaks things by a seed and judges what is left. It calls healed when it
// has healed all, with what it could not heal; when ctx ends it heals, and judges
// what there is.
type Chaos func(ctx context.Context, o ChaosOrder, healed func(broken error), progress func(format string, args ...any)) (*chaos.Report, error)

// chaosRun is the run that is under way, or the last one. The server's lock
// guards it.
type chaosRun struct {
	run    Chaos // nil: there is none
	last   chaosView
	stop   context.CancelFunc
	healed chan struct{} // closed when all that can be is healed
	broken error         // what could not be
}

// chaosView is what is told of a run.
type chaosView struct {
	Seed    uint64     `json:"seed"`
	Began   *time.Time `json:"began,omitempty"` // absent: there was none yet
	Running bool       `json:"running"`
	Lines   []string   `json:"lines"` // the last ones
	Verdict *verdict   `json:"verdict,omitempty"`
	Error   string     `json:"error,omitempty"`
}

func (c *chaosRun) running() bool { return c.last.Running }

func (c *chaosRun) view() *chaosView {
	if c.run == nil {
		return nil
	}
	v := c.last
	v.Lines = append([]string{}, v.Lines...)
	return &v
}

// beginChaos starts a run, and waits for it when it was asked to.
func (s *Server) beginChaos(w http.ResponseWriter, r *http.Request) {
	var o ChaosOrder
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<12)).Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	lines := make(chan said, toldLines)
	if err := s.startChaos(o, lines); err != nil {
		tell(w, "", err)
		return
	}
	tell(w, fmt.Sprintf("chaos under seed %d", o.Seed), nil)
	if !o.Attached {
		return
	}
	gone := r.Context().Done()
	for {
		select {
		case line, more := <-lines:
			if !more {
				return
			}
			json.NewEncoder(w).Encode(line)       //nolint:errcheck // a client that is gone is noticed below
			http.NewResponseController(w).Flush() //nolint:errcheck // as above
		case <-gone:
			s.stopChaos()
			gone = nil // what is left is the verdict
		}
	}
}

// startChaos starts a run, which tells each step and in the end closes lines. Steps
// that nobody takes are lost.
func (s *Server) startChaos(o ChaosOrder, lines chan<- said) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.chaos
	switch {
	case c.run == nil:
		return fmt.Errorf("there is no chaos here: Kafka or Postgres is not the demo's own to break; pavane chaos runs on a stack of its own")
	case c.running():
		return fmt.Errorf("chaos is under way already")
	case len(s.standing) > 0:
		return fmt.Errorf("%d faults stand: heal them first", len(s.standing))
	case s.whole.Err() != nil:
		return errStopping
	}
	ctx, stop := context.WithCancel(s.whole)
	began := time.Now()
	c.last, c.stop, c.healed, c.broken = chaosView{Seed: o.Seed, Began: &began, Running: true}, stop, make(chan struct{}), nil
	go s.runChaos(ctx, o, lines)
	return nil
}

func (s *Server) runChaos(ctx context.Context, o ChaosOrder, lines chan<- said) {
	defer close(lines)
	var once sync.Once
	healed := func(broken error) {
		once.Do(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.chaos.broken = broken
			close(s.chaos.healed)
		})
	}
	rep, err := s.chaos.run(ctx, o, healed, func(format string, args ...any) { s.step(fmt.Sprintf(format, args...), lines) })
	healed(nil) // when it failed before
	s.mu.Lock()
	s.chaos.stop()
	c := &s.chaos.last
	c.Running = false
	end := said{Report: rep}
	if err != nil {
		c.Error = err.Error()
		end = said{Error: c.Error}
	} else {
		c.Verdict = &verdict{rep.OK, rep.Failures, rep.Summary()}
	}
	s.mu.Unlock()
	if o.Attached {
		lines <- end // the handler takes all, also when its client is gone
	}
}

// step notes a step of a run, and tells it if somebody has the time for it.
func (s *Server) step(text string, lines chan<- said) {
	s.mu.Lock()
	c := &s.chaos.last
	c.Lines = slices.Clone(append(c.Lines, time.Now().Format(time.TimeOnly)+" "+text)[max(0, len(c.Lines)+1-keptLines):])
	s.mu.Unlock()
	select {
	case lines <- said{Text: text}:
	default:
	}
}

// stopChaos has a run that is under way end; false: there was none.
func (s *Server) stopChaos() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.chaos.running() {
		return false
	}
	s.chaos.stop()
	return true
}

// endChaos has a run end before its time.
func (s *Server) endChaos(w http.ResponseWriter, _ *http.Request) {
	if !s.stopChaos() {
		tell(w, "no chaos is under way", nil)
		return
	}
	tell(w, "everything is healed and judged now", nil)
}

// awaitHealed returns when a run has healed what it has broken; an error says what
// may still be broken.
func (s *Server) awaitHealed(ctx context.Context) error {
	s.mu.Lock()
	healed := s.chaos.healed
	s.mu.Unlock()
	if healed == nil {
		return nil
	}
	select {
	case <-healed:
	case <-ctx.Done():
		return fmt.Errorf("chaos has not healed what it has broken: %w", ctx.Err())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chaos.broken
}
