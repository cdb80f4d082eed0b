// Package httpapi owns the HTTP side of a service: the server with its limits,
// health and metrics, the OpenAPI document, and one form of error for all of it,
// RFC 9457 problem details.
//
// Routes are bound with [Register]; it turns the class of a handler's error
// ([pavane/shared/fault]) into a status. Malformed requests are 400, requests
// that are well formed and wrong 422.
package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"pavane/shared/tracing"
)

// The limits of every connection. Streams lift the one for writing ([Stream]).
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 64 << 10
	defaultBodyBytes  = 1 << 20
)

// Config says what a server serves and where.
type Config struct {
	Title   string // of the API, in the OpenAPI document
	Version string // of the service
	Addr    string // host:port to listen on; port 0 takes a free one

	Logger   *slog.Logger         // required
	Registry *prometheus.Registry // served at /metrics; nil: no metrics
	Tracer   *tracing.Tracer      // of the requests; nil: no spans

	// Checks are asked by /readyz. /livez asks nobody.
	Checks []Check

	// MaxBodyBytes is the size from which on a request body is refused with 413.
	// Zero means 1 MiB.
	MaxBodyBytes int64

	// Drain is how long requests are still taken after /readyz began to answer
	// 503 at the stop. Zero: not at all. It must be longer than the interval at
	// which a load balancer asks.
	Drain time.Duration
}

// Server is one HTTP server. Start, Run and Stop are the functions of a
// lifecycle part.
type Server struct {
	config   Config
	api      huma.API
	mux      *http.ServeMux
	handler  http.Handler
	http     *http.Server
	guards   []Guard
	requests *prometheus.HistogramVec // nil without a registry
	listener atomic.Pointer[net.Listener]
	draining atomic.Bool
	stopping chan struct{} // closed when streams must end
	stopOnce sync.Once
}

// New builds a server with /livez, /readyz, /metrics and /openapi.json. It does
// not listen yet.
func New(c Config) *Server {
	if c.MaxBodyBytes == 0 {
		c.MaxBodyBytes = defaultBodyBytes
	}
	s := &Server{config: c, mux: http.NewServeMux(), stopping: make(chan struct{})}
	s.api = humago.New(s.mux, s.humaConfig())
	s.mux.HandleFunc("GET /livez", live)
	s.mux.HandleFunc("GET /readyz", s.ready)
	s.mux.HandleFunc("GET /openapi.json", s.openAPI())
	if c.Registry != nil {
		s.requests = newRequestMetric(c.Registry)
		s.mux.Handle("GET /metrics", promhttp.HandlerFor(c.Registry, promhttp.HandlerOpts{}))
	}
	s.handler = s.middleware()
	s.http = &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
	}
	s.http.RegisterOnShutdown(s.endStreams)
	return s
}

// humaConfig leaves out huma's documentation pages, which load scripts from
// elsewhere, its schema links, which add a field to every body, and its own
// OpenAPI routes, which fill their cache without a lock.
func (s *Server) humaConfig() huma.Config {
	c := huma.DefaultConfig(s.config.Title, s.config.Version)
	c.DocsPath, c.SchemasPath, c.OpenAPIPath = "", "", ""
	c.CreateHooks = nil
	c.OnAddOperation = append(c.OnAddOperation, describe)
	c.Transformers = []huma.Transformer{s.finishProblem}
	return c
}

// API is the OpenAPI side of the server, for huma's own verbs. Bind operations
// with [Register], not with huma.Register: only it maps errors by their class.
func (s *Server) API() huma.API { return s.api }

// Handle binds a handler outside the OpenAPI document: a page, a proxy, a stream.
// The pattern is that of [http.ServeMux].
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// Handler is everything the server serves, for tests without a socket.
func (s *Server) Handler() http.Handler { return s.handler }

// Addr is the host:port the server listens on; before Start, the configured one.
func (s *Server) Addr() string {
	if l := s.listener.Load(); l != nil {
		return (*l).Addr().String()
	}
	return s.config.Addr
}

// Start listens. Connections wait until Run.
func (s *Server) Start(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.config.Addr)
	if err != nil {
		return fmt.Errorf("httpapi: listen on %q: %w: choose a free host:port", s.config.Addr, err)
	}
	s.listener.Store(&l)
	s.config.Logger.InfoContext(ctx, "listening", "addr", l.Addr().String())
	return nil
}

// Run serves until Stop, or until ctx ends, which cuts requests off.
func (s *Server) Run(ctx context.Context) error {
	if s.listener.Load() == nil {
		if err := s.Start(ctx); err != nil {
			return err
		}
	}
	cut := context.AfterFunc(ctx, func() {
		s.endStreams()
		s.http.Close() //nolint:errcheck // it reports listeners that are closed already
	})
	defer cut()
	err := s.http.Serve(*s.listener.Load())
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("httpapi: serve on %s: %w", s.Addr(), err)
}

// Stop makes /readyz answer 503, goes on serving for Config.Drain, then takes no
// more connections, ends streams and waits for the other requests, at most until
// ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	s.draining.Store(true)
	if s.config.Drain > 0 {
		t := time.NewTimer(s.config.Drain)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	err := s.http.Shutdown(ctx)
	if l := s.listener.Load(); l != nil {
		(*l).Close() //nolint:errcheck // Shutdown has closed it unless Run never came to serve
	}
	if err != nil {
		return fmt.Errorf("httpapi: requests were still running at the end of the time to stop: %w", err)
	}
	return nil
}

func (s *Server) endStreams() { s.stopOnce.Do(func() { close(s.stopping) }) }

// openAPI serves the document. It is made at the first request, when all
// operations are bound.
func (s *Server) openAPI() http.HandlerFunc {
	document := sync.OnceValues(func() ([]byte, error) {
		hideValues(s.api.OpenAPI().Components.Schemas)
		return json.Marshal(s.api.OpenAPI())
	})
	return func(w http.ResponseWriter, r *http.Request) {
		b, err := document()
		if err != nil {
			s.internal(w, r, fmt.Errorf("httpapi: write the OpenAPI document: %w", err))
			return
		}
		w.Header().Set("Content-Type", "application/openapi+json")
		w.Write(b) //nolint:errcheck // the client is gone
	}
}
