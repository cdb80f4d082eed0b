package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// checkTimeout is how long one check may take before it counts as failed.
const checkTimeout = 2 * time.Second

// Check is one thing that must be in order before requests make sense.
type Check struct {
	Name  string
	Probe func(ctx context.Context) error // nil: in order
}

// live answers as long as the process serves at all. It depends on nothing else:
// a service that is restarted because its database is away helps nobody.
func live(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "ok\n")
}

// ready answers in the form of the Kubernetes API server: "ok", or one line for
// each check when asked with ?verbose or when one fails.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	checks := s.checks()
	failed := probe(r.Context(), checks)
	status, verdict := http.StatusOK, "readyz check passed"
	for _, err := range failed {
		if err != nil {
			status, verdict = http.StatusServiceUnavailable, "readyz check failed"
		}
	}
	if status == http.StatusOK && !r.URL.Query().Has("verbose") {
		writeText(w, status, "ok\n")
		return
	}
	var b strings.Builder
	for i, c := range checks {
		if failed[i] == nil {
			fmt.Fprintf(&b, "[+]%s ok\n", c.Name)
			continue
		}
		fmt.Fprintf(&b, "[-]%s failed: %v\n", c.Name, failed[i])
	}
	writeText(w, status, b.String()+verdict+"\n")
}

// AddCheck adds a check to those of the config. It is called before Start.
func (s *Server) AddCheck(c Check) { s.config.Checks = append(s.config.Checks, c) }

// checks are the configured ones and the one that the server is not stopping.
func (s *Server) checks() []Check {
	stopping := Check{Name: "not-stopping", Probe: func(context.Context) error {
		if s.draining.Load() {
			return fmt.Errorf("the process is stopping")
		}
		return nil
	}}
	return append([]Check{stopping}, s.config.Checks...)
}

// probe runs all checks at once and returns their errors in their order. It does
// not wait longer than checkTimeout, even for a check that does not obey ctx.
func probe(ctx context.Context, checks []Check) []error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	results := make([]chan error, len(checks))
	for i, c := range checks {
		results[i] = make(chan error, 1)
		go func() { results[i] <- c.ask(ctx) }()
	}
	failed := make([]error, len(checks))
	for i := range checks {
		select {
		case failed[i] = <-results[i]:
		case <-ctx.Done():
			failed[i] = fmt.Errorf("no answer within %s", checkTimeout)
		}
	}
	return failed
}

// ask is Probe with a panic made an error.
func (c Check) ask(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the check panicked: %v", p)
		}
	}()
	return c.Probe(ctx)
}

func writeText(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write([]byte(text)) //nolint:errcheck // the client is gone
}
