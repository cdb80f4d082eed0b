package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

const (
	// keptLines is how many of the last lines of a run are told.
	keptLines = 40
	// healPatience is how long the end of the demo waits for chaos to heal.
	healPatience = 10 * time.Second
)

// Verdict is what a run of chaos came to.
type Verdict struct {
	OK       bool     `json:"ok"`
	Failures []string `json:"failures"` // why it is not
	Summary  []string `json:"summary"`
}

// Chaos breaks things by a seed and judges what is left. It calls healed when
// nothing is broken any more; when ctx ends it heals, and judges what there is.
type Chaos func(ctx context.Context, seed uint64, healed func(), progress func(format string, args ...any)) (Verdict, error)

// chaosRun is the run that is under way, or the last one. The server's lock
// guards it.
type chaosRun struct {
	run    Chaos // nil: there is none
	last   chaosView
	stop   context.CancelFunc
	healed chan struct{} // closed when nothing is broken any more
}

// chaosView is what is told of a run.
type chaosView struct {
	Seed    uint64     `json:"seed"`
	Began   *time.Time `json:"began,omitempty"` // absent: there was none yet
	Running bool       `json:"running"`
	Lines   []string   `json:"lines"` // the last ones
	Verdict *Verdict   `json:"verdict,omitempty"`
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

// beginChaos starts a run and does not wait for it.
func (s *Server) beginChaos(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Seed uint64 `json:"seed"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.startChaos(in.Seed); err != nil {
		tell(w, "", err)
		return
	}
	tell(w, fmt.Sprintf("chaos under seed %d", in.Seed), nil)
}

func (s *Server) startChaos(seed uint64) error {
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
		return fmt.Errorf("the demo is stopping")
	}
	ctx, stop := context.WithCancel(s.whole)
	began := time.Now()
	c.last, c.stop, c.healed = chaosView{Seed: seed, Began: &began, Running: true}, stop, make(chan struct{})
	go s.runChaos(ctx, seed, c.healed)
	return nil
}

func (s *Server) runChaos(ctx context.Context, seed uint64, healed chan struct{}) {
	open := true
	heal := func() {
		if open {
			close(healed)
			open = false
		}
	}
	defer heal() // when it failed before
	v, err := s.chaos.run(ctx, seed, heal, func(format string, args ...any) {
		line := time.Now().Format(time.TimeOnly) + " " + fmt.Sprintf(format, args...)
		s.mu.Lock()
		defer s.mu.Unlock()
		c := &s.chaos.last
		c.Lines = slices.Clone(append(c.Lines, line)[max(0, len(c.Lines)+1-keptLines):])
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chaos.stop()
	c := &s.chaos.last
	c.Running = false
	if err != nil {
		c.Error = err.Error()
		return
	}
	c.Verdict = &v
}

// endChaos has a run end before its time.
func (s *Server) endChaos(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.chaos.running() {
		tell(w, "no chaos is under way", nil)
		return
	}
	s.chaos.stop()
	tell(w, "everything is healed and judged now", nil)
}

// awaitHealed waits, for a while, until a run has healed what it has broken.
func (s *Server) awaitHealed() {
	s.mu.Lock()
	healed := s.chaos.healed
	s.mu.Unlock()
	if healed == nil {
		return
	}
	select {
	case <-healed:
	case <-time.After(healPatience):
	}
}
