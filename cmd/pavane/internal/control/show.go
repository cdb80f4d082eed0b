package control

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"pavane/cmd/pavane/internal/fault"
)

// keptNotes is how many of the last notes are told.
const keptNotes = 30

// note is something that was done.
type note struct {
	At    time.Time `json:"at"`
	Name  string    `json:"name"` // of the fault
	Text  string    `json:"text"`
	Error string    `json:"error,omitempty"`
}

// kind is a way to break something.
type kind struct {
	Name     string   `json:"name"`
	Services []string `json:"services,omitempty"`
	Servers  []string `json:"servers,omitempty"`
	Lasts    bool     `json:"lasts"` // until it is healed
	Breaks   string   `json:"breaks"`
	Expect   string   `json:"expect"`
	Missing  string   `json:"missing,omitempty"` // what the system lacks to cause it
}

// broken is a fault that stands.
type broken struct {
	Name  string     `json:"name"`
	Since time.Time  `json:"since"`
	Until *time.Time `json:"until,omitempty"` // absent: until somebody heals it
}

// state is all that there is to know.
type state struct {
	Kinds    []kind     `json:"kinds"`
	Standing []broken   `json:"standing"`
	Notes    []note     `json:"notes"` // the newest first
	Chaos    *chaosView `json:"chaos"` // null: there is none here
}

// show tells what can be broken, what is, and what was done.
func (s *Server) show(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(s.look(r.Context())) //nolint:errcheck // the client is gone
}

func (s *Server) look(ctx context.Context) state {
	st := state{Standing: []broken{}}
	for _, k := range fault.Kinds() {
		st.Kinds = append(st.Kinds, kind{k.Name, k.Services, k.Servers, k.Most > 0, k.Breaks, k.Expect, s.missing(ctx, k.Name)})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, f := range s.standing {
		b := broken{Name: name, Since: f.since}
		if !f.until.IsZero() {
			b.Until = &f.until
		}
		st.Standing = append(st.Standing, b)
	}
	slices.SortFunc(st.Standing, func(a, b broken) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Name, b.Name)) })
	st.Notes = append([]note{}, s.notes...)
	slices.Reverse(st.Notes)
	st.Chaos = s.chaos.view()
	return st
}

// note keeps what was done.
func (s *Server) note(name, text string, err error) {
	n := note{At: time.Now(), Name: name, Text: text}
	if err != nil {
		n.Error = err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, n)
	s.notes = s.notes[max(0, len(s.notes)-keptNotes):]
}

// missing says what the system lacks to cause faults of a kind; empty: nothing.
func (s *Server) missing(ctx context.Context, kind string) string {
	if err := s.driver.Missing(ctx, kind); err != nil {
		return err.Error()
	}
	return ""
}

func joinNonEmpty(a, b string) string {
	if b == "" {
		return a
	}
	return a + ": " + b
}
