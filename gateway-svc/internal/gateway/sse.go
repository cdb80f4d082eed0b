package gateway

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// writeTime is how long a client may take to take what is written to it.
const writeTime = 10 * time.Second

// stream writes server-sent events (HTML Living Standard, 9.2).
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// openStream answers 200 and asks the client to come back after 2 s when the
// stream ends.
func openStream(w http.ResponseWriter) (*stream, error) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies shall pass each event on at once
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	s := &stream{w: w, control: http.NewResponseController(w)}
	return s, s.write("retry: 2000\n\n")
}

// event sends one event. Data must be one line.
func (s *stream) event(id, kind string, data []byte) error {
	var b bytes.Buffer
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", oneLine(kind), data)
	return s.write(b.String())
}

// comment sends a line that clients ignore and people can read.
func (s *stream) comment(text string) error { return s.write(": " + oneLine(text) + "\n\n") }

func oneLine(s string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(s) }

func (s *stream) write(text string) error {
	// A writer without deadlines, as in some tests, needs none.
	s.control.SetWriteDeadline(time.Now().Add(writeTime)) //nolint:errcheck // see above
	if _, err := s.w.Write([]byte(text)); err != nil {    // #nosec G705 -- an event stream is no page; fields are of one line each
		return err
	}
	return s.control.Flush()
}
