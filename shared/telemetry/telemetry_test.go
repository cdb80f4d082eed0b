package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"pavane/shared/telemetry"
)

func TestLogger_Secrets_NeverReachTheLog(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		var b bytes.Buffer
		l := telemetry.Logger(&b, "order-svc", telemetry.LogConfig{Format: format})
		l.Info("connected",
			"db_password", "hunter2",
			"url", "postgres://app:hunter2@db/orders",
			"error", fmt.Errorf("dial: %w", errors.New("amqp://u:hunter2@x refused")),
			slog.Group("http", "Authorization", "Bearer hunter2"),
		)
		l.With("api_key", "hunter2").Warn("x")
		if strings.Contains(b.String(), "hunter2") {
			t.Errorf("%s shows a secret: %s", format, b.String())
		}
		if !strings.Contains(b.String(), "@db/orders") {
			t.Errorf("%s hides more than the password: %s", format, b.String())
		}
	}
}

func TestLogger_PlainValues_ComeThroughUnchanged(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	telemetry.Logger(&b, "order-svc", telemetry.LogConfig{}).Info("m", "key", "o-1", "url", "http://h:80/a@b", "n", 3)
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]any{"service": "order-svc", "key": "o-1", "url": "http://h:80/a@b", "n": 3.0} {
		if line[k] != want {
			t.Errorf("%s = %v, want %v", k, line[k], want)
		}
	}
}

func TestLogger_BelowTheLevel_IsSilent(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	telemetry.Logger(&b, "s", telemetry.LogConfig{Level: slog.LevelWarn}).Info("m")
	if b.Len() > 0 {
		t.Errorf("got %s", b.String())
	}
}

func TestLogConfig_UnknownFormat_IsRefused(t *testing.T) {
	t.Parallel()
	if err := (telemetry.LogConfig{Format: "xml"}).Validate(); err == nil || !strings.Contains(err.Error(), "json or text") {
		t.Errorf("got %v", err)
	}
}

func TestRegistry_CarriesServiceProcessAndRuntime(t *testing.T) {
	t.Parallel()
	families, err := telemetry.Registry("order-svc", "1.2").Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, f := range families {
		found[f.GetName()] = f.String()
	}
	for _, want := range []string{"pavane_service_info", "go_goroutines", "process_start_time_seconds"} {
		if found[want] == "" {
			t.Errorf("%s is missing", want)
		}
	}
	if !strings.Contains(found["pavane_service_info"], "order-svc") {
		t.Errorf("got %s", found["pavane_service_info"])
	}
}

func ExampleLogger() {
	l := telemetry.Logger(os.Stdout, "order-svc", telemetry.LogConfig{Format: "text"})
	l = slog.New(withoutTime{l.Handler()})
	l.Info("connected", "url", "postgres://app:hunter2@db/orders")
	// Output: level=INFO msg=connected service=order-svc url=postgres://app:********@db/orders
}

// withoutTime makes a line the same each time.
type withoutTime struct{ slog.Handler }

func (h withoutTime) Handle(ctx context.Context, r slog.Record) error {
	r.Time = time.Time{}
	return h.Handler.Handle(ctx, r)
}
