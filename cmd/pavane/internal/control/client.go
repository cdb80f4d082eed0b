package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

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
	return ask(ctx, c, http.MethodPost, body, told)
}

// Heal has the demo heal all that is broken.
func Heal(ctx context.Context, c stack.Control, told func(string)) error {
	return ask(ctx, c, http.MethodDelete, nil, told)
}

func ask(ctx context.Context, c stack.Control, method string, body []byte, told func(string)) error {
	if c.URL == "" {
		return errors.New("this demo cannot be broken: it was started by an older `pavane up`, or it is only just coming up")
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+"/faults", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("break: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("break: %w", err)
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
		case line.Text != "":
			told(line.Text)
		}
	}
}
