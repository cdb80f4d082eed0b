package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"pavane/cmd/pavane/internal/chaos"
	"pavane/cmd/pavane/internal/fault"
	"pavane/cmd/pavane/internal/stack"
)

// Break has the demo cause a fault, tells each step, and returns when it is
// healed, or stands when it has no time. When ctx ends the demo heals it.
func Break(ctx context.Context, c stack.Control, spec fault.Spec, length time.Duration, told func(string)) error {
	body, err := json.Marshal(order{Spec: spec, For: length})
	if err != nil {
		return fmt.Errorf("break: %w", err)
	}
	return ask(ctx, c, http.MethodPost, "/faults", body, heard(told))
}

// Heal has the demo heal the fault of a name, or all that is broken when it is empty.
func Heal(ctx context.Context, c stack.Control, name string, told func(string)) error {
	return ask(ctx, c, http.MethodDelete, "/faults?name="+url.QueryEscape(name), nil, heard(told))
}

// RunChaos has the demo run chaos, tells each step, and returns the report. When
// ctx ends the demo heals, and judges what there is.
func RunChaos(ctx context.Context, c stack.Control, o ChaosOrder, told func(string)) (rep *chaos.Report, err error) {
	o.Attached = true
	body, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("chaos: %w", err)
	}
	whole := context.WithoutCancel(ctx)
	enough := func() {
		ask(whole, c, http.MethodDelete, "/chaos", nil, func(said) {}) //nolint:errcheck // then the answer below ends, too
	}
	var begun sync.Once
	forget := func() bool { return false }
	err = ask(whole, c, http.MethodPost, "/chaos", body, func(line said) {
		begun.Do(func() { forget = context.AfterFunc(ctx, enough) }) // now it can be told to end
		if line.Text != "" {
			told(line.Text)
		}
		rep = line.Report
	})
	forget() // the next run may be somebody else's
	if err == nil && rep == nil {
		err = errors.New("chaos: the demo ended before its report")
	}
	return rep, err
}

// unreached says what to do when nobody listens.
func unreached(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("break: nobody takes orders: start `pavane up`, or the stack of compose with -f compose.yaml -f compose.chaos.yaml: %w", err)
	}
	return fmt.Errorf("break: %w", err)
}

// heard passes on the texts of lines.
func heard(told func(string)) func(said) {
	return func(line said) {
		if line.Text != "" {
			told(line.Text)
		}
	}
}

func ask(ctx context.Context, c stack.Control, method, path string, body []byte, told func(said)) error {
	if c.URL == "" {
		return errors.New("this demo cannot be broken: it was started by an older `pavane up`, or it is only just coming up")
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("break: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return unreached(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		return fmt.Errorf("break: %s: %s", res.Status, strings.TrimSpace(string(b)))
	}
	for lines := json.NewDecoder(res.Body); ; {
		var line said
		switch err := lines.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("break: the demo ended, or the fault was given up: %w", err)
		case line.Error != "":
			return errors.New(line.Error)
		default:
			told(line)
		}
	}
}
