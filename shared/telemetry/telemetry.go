// Package telemetry owns how a process speaks about itself: one structured
// logger, one registry of metrics and, where a collector is named, its traces.
// Passwords and tokens do not get through the logger, whoever hands them to it.
package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"
)

const masked = "********"

// urlPassword finds the password in a URL anywhere in a text.
var urlPassword = regexp.MustCompile(`(://[^:/?#\s@]*:)[^/\s]*@`)

// LogConfig says what the log looks like. The zero value is JSON from level
// info up.
type LogConfig struct {
	Level  slog.Level `default:"info" desc:"lowest level that is logged: debug, info, warn or error"`
	Format string     `default:"json" desc:"form of a log line: json or text"`
}

// Validate refuses a format that does not exist.
func (c LogConfig) Validate() error {
	switch c.Format {
	case "", "json", "text":
		return nil
	default:
		return fmt.Errorf("log format %q does not exist: set json or text", c.Format)
	}
}

// Logger returns a logger that writes to w, each line with the name of the
// service, and with trace_id where the context has a trace. Values under names such as password, secret, token or authorization,
// and passwords inside URLs, are masked.
func Logger(w io.Writer, service string, c LogConfig) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level, ReplaceAttr: mask}
	var h slog.Handler = slog.NewJSONHandler(w, options)
	if c.Format == "text" {
		h = slog.NewTextHandler(w, options)
	}
	return slog.New(traced{h}).With("service", service)
}

// traced puts the trace of the context on a line.
type traced struct{ slog.Handler }

// Handle writes a line.
func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the trace on the lines of a logger with more attributes.
func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }

// WithGroup keeps the trace on the lines of a logger with a group.
func (h traced) WithGroup(name string) slog.Handler { return traced{h.Handler.WithGroup(name)} }

// Registry returns a fresh metrics registry with the collectors of the process
// and of the Go runtime, and pavane_service_info, always 1, which carries the
// service, its version and the Go version as labels. Each package registers
// its own metrics in it.
func Registry(service, version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "pavane_service_info",
		Help: "Which service this is and which version of it runs.",
		ConstLabels: prometheus.Labels{
			"service": service, "version": version, "go_version": goVersion(),
		},
	})
	info.Set(1)
	r.MustRegister(info, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

func goVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.GoVersion
	}
	return "unknown"
}

// mask is the logger's last look at each attribute.
func mask(_ []string, a slog.Attr) slog.Attr {
	if isSecret(a.Key) {
		return slog.String(a.Key, masked)
	}
	switch v := a.Value.Any().(type) {
	case string:
		if strings.Contains(v, "://") {
			a.Value = slog.StringValue(urlPassword.ReplaceAllString(v, "${1}"+masked+"@"))
		}
	case error:
		a.Value = slog.StringValue(urlPassword.ReplaceAllString(v.Error(), "${1}"+masked+"@"))
	}
	return a
}

// isSecret says whether a value of this name must not be read by anyone. Plain
// "key" is not among them: it is the key of an event.
func isSecret(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"password", "passwd", "secret", "token", "authorization", "cookie", "api_key", "apikey", "private_key"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
