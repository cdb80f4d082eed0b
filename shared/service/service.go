// Package service owns the standing parts of a service process: it opens what
// every service needs (database, outbox, broker, HTTP, registry) and runs it
// with the parts the service adds, in the order that loses nothing at a stop.
package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/broker"
	"pavane/shared/config"
	"pavane/shared/event"
	"pavane/shared/failpoint"
	"pavane/shared/fault"
	"pavane/shared/httpapi"
	"pavane/shared/identity"
	"pavane/shared/inbox"
	"pavane/shared/lifecycle"
	"pavane/shared/outbox"
	"pavane/shared/parked"
	"pavane/shared/postgres"
	"pavane/shared/react"
	"pavane/shared/registry"
	"pavane/shared/relay"
	"pavane/shared/story"
	"pavane/shared/telemetry"
	"pavane/shared/tracing"
)

// Spec says which service this is.
type Spec struct {
	Name    string       // "order-svc": consumer group, registry name and, after a slash, the CloudEvents source
	Version string       // of its HTTP API, in the OpenAPI document
	Topics  event.Topics // where each kind goes
	// Publishers names, by the first word of a kind, the service that alone
	// publishes such events; records of others are parked. A word that is not in
	// it: anybody.
	Publishers map[string]string
	Migrations fs.FS // its own tables; nil: it has no database

	// Public says that its HTTP is for callers from outside, whom it checks itself.
	// Otherwise it takes calls of the other services alone, if there is a key.
	Public bool

	// Pace is the least time between two transactions of the consumer while
	// little comes; 0 means 10 ms. What nobody waits for is cheaper with more.
	Pace time.Duration

	// Consumer changes the limits of the consumer before it is made, such as
	// MaxAttempts, RetryDelay or BatchSize; what the service has wired is to stay as
	// it is. nil: the limits of [react.ConsumerConfig]. A value that no consumer
	// takes ends Run with an error.
	Consumer func(*react.ConsumerConfig)
}

// Service is the process being built. It is not safe for concurrent use until Run.
type Service struct {
	cfg       Config
	spec      Spec
	ask       ask
	relayOnly bool // the process publishes and does nothing else
	logger    *slog.Logger
	metrics   *prometheus.Registry
	db        *postgres.DB // nil without a database
	relayDB   *postgres.DB
	bell      *postgres.Bell // nil without a relay
	outbox    *outbox.Outbox
	admission *relay.Admission // nil without a database
	broker    *broker.Client
	http      *httpapi.Server
	keys      *identity.Keys // nil: calls are not signed
	members   *discovery
	failpoint *failpoint.Set
	traces    *telemetry.Traces // nil without a collector
	tracer    *tracing.Tracer   // nil without a collector

	reactions []react.Reaction
	serial    bool
	setup     []lifecycle.Part
	parts     []lifecycle.Part

	consumer *react.Consumer // nil without reactions; set before the parts start
	consumed atomic.Bool     // it was ready once

	topicsReady chan struct{} // closed when the topics are as they must be
	waitingFor  atomic.Pointer[string]
	stopping    atomic.Bool
}

// Open prepares a service. It waits for the database as long as that takes,
// answering /livez and saying at /readyz what is missing, and applies the
// migrations. Kafka is not waited for: without it orders are still taken. An
// error means that the configuration is wrong, a migration failed or ctx ended.
func Open(ctx context.Context, cfg Config, spec Spec) (*Service, error) {
	return prepare(ctx, cfg, spec, false)
}

func prepare(ctx context.Context, cfg Config, spec Spec, relayOnly bool) (*Service, error) {
	spec.Topics = inNamespace(cfg.Namespace, spec.Topics)
	s := &Service{
		cfg: cfg, spec: spec, ask: asked(ctx), relayOnly: relayOnly, topicsReady: make(chan struct{}),
		logger:  telemetry.Logger(os.Stderr, spec.Name, cfg.Log),
		metrics: telemetry.Registry(spec.Name, telemetry.Version()),
	}
	if s.ask.mode == modeDescribe {
		s.logger = slog.New(slog.DiscardHandler)
	} else if err := s.openTraces(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", spec.Name, err)
	}
	s.http = httpapi.New(httpapi.Config{
		Title: spec.Name, Version: spec.Version, Addr: cfg.HTTPAddr, Drain: cfg.Drain,
		Logger: s.logger, Registry: s.metrics, Tracer: s.tracer, Checks: s.checks(),
	})
	var err error
	if s.keys, err = identity.ParseKeys(cfg.ServiceKey); err != nil {
		return nil, fmt.Errorf("%s: %w", spec.Name, err)
	}
	if !spec.Public {
		s.http.ForServices(spec.Name, s.keys)
	}
	if s.ask.mode == modeDescribe {
		return s, nil
	}
	if err := s.open(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("%s: %w", spec.Name, err)
	}
	return s, nil
}

func (s *Service) open(ctx context.Context) error {
	s.logConfig(ctx)
	var err error
	if s.failpoint, err = failpoint.Open(s.cfg.Failpoints, s.spec.Name); err != nil {
		return err
	}
	if s.cfg.Failpoints != "" {
		s.http.API().UseMiddleware(func(hc huma.Context, next func(huma.Context)) {
			next(huma.WithContext(hc, failpoint.With(hc.Context(), s.failpoint)))
		})
	}
	s.broker, err = broker.Dial(s.cfg.Kafka.Secure(broker.Config{
		Brokers: s.cfg.Brokers, ClientID: s.spec.Name, Topics: s.topicNames(), Logger: s.logger,
	}))
	if err != nil {
		return err
	}
	if s.members, err = newDiscovery(s.cfg, s.spec, s.logger); err != nil {
		return err
	}
	if s.spec.Migrations == nil && !s.relayOnly {
		return nil
	}
	if err := s.openDatabase(ctx); err != nil || s.relayOnly {
		return err
	}
	story.Register(s.http.API(), s.db, s.cfg.Partitions)
	parked.Register(s.http, s.db, s.cfg.OperatorToken)
	return nil
}

// logConfig shows what every service can be told, as this one was.
func (s *Service) logConfig(ctx context.Context) {
	if attrs, err := config.Dump(Prefix, &s.cfg); err == nil {
		s.logger.LogAttrs(ctx, slog.LevelDebug, "configuration", attrs...)
	}
	s.logger.InfoContext(ctx, "starting", "pid", os.Getpid(), "build", telemetry.Version())
}

// openTraces sends spans to a collector, where the environment names one.
func (s *Service) openTraces(ctx context.Context) (err error) {
	if s.traces, err = telemetry.OpenTraces(ctx, s.spec.Name, telemetry.Version(), s.logger, s.metrics); err == nil {
		s.tracer = tracing.New(s.traces.Provider())
	}
	return err
}

// Tracer is where the service starts spans of its own; nil without a collector,
// which is as good.
func (s *Service) Tracer() *tracing.Tracer { return s.tracer }

// DB is the service's own database. In a service without one it is nil.
func (s *Service) DB() *postgres.DB { return s.db }

// Outbox appends the service's events. In a service without a database it is nil.
func (s *Service) Outbox() *outbox.Outbox { return s.outbox }

// Admit returns nil, or why the service should not take new work now: too much
// waits to be published. A route that begins something asks it and returns the
// error, which becomes a 503 with Retry-After; what continues work that was
// accepted must not ask. It costs nothing.
func (s *Service) Admit() error {
	if s.admission == nil {
		return nil
	}
	if err := s.admission.Admit(); err != nil {
		return fault.Unavailable("%w", err)
	}
	return nil
}

// HTTP is where routes are bound, with httpapi.Register.
func (s *Service) HTTP() *httpapi.Server { return s.http }

// ServiceKeys signs calls to other services; nil: they are not signed.
func (s *Service) ServiceKeys() *identity.Keys { return s.keys }

// Logger is the process's logger.
func (s *Service) Logger() *slog.Logger { return s.logger }

// Metrics is where the service registers its own metrics.
func (s *Service) Metrics() *prometheus.Registry { return s.metrics }

// Registry finds the instances of the other services.
func (s *Service) Registry() registry.Registry { return s.members }

// Topics is where each kind of event goes; the same as in the Spec but for the
// configured namespace.
func (s *Service) Topics() event.Topics { return s.spec.Topics }

// Broker is the way to Kafka, for reading; what is written goes through the outbox.
func (s *Service) Broker() *broker.Client { return s.broker }

// React adds reactions to the service's table. Rows that only declare an origin
// are for the catalogue.
func (s *Service) React(reactions ...react.Reaction) {
	s.reactions = append(s.reactions, reactions...)
}

// ReactSerially is React for a service whose keys share rows, such as stock or
// accounts: its instances apply one batch at a time.
func (s *Service) ReactSerially(reactions ...react.Reaction) {
	s.serial = true
	s.React(reactions...)
}

// Alone makes a transaction of the service's own work wait for the reactions of
// [Service.ReactSerially], and them for it, so that neither meets the other on
// shared rows. It is called first in the transaction.
func (s *Service) Alone(ctx context.Context, tx *sqlx.Tx) error {
	return inbox.Alone(ctx, tx, s.group())
}

// Setup adds a step that Run takes before it serves anything, such as seeding.
// A step that fails with an unavailable database is taken again.
func (s *Service) Setup(name string, step func(ctx context.Context) error) {
	s.setup = append(s.setup, lifecycle.Part{Name: name, Start: step})
}

// Go adds a part that runs beside HTTP and consumer until its context ends. An
// error of it ends the process.
func (s *Service) Go(name string, run func(ctx context.Context) error) {
	s.parts = append(s.parts, lifecycle.Part{Name: name, Run: run})
}

// Check adds a named check to /readyz. It is called before Run.
func (s *Service) Check(name string, probe func(ctx context.Context) error) {
	s.http.AddCheck(httpapi.Check{Name: name, Probe: probe})
}

// Run runs the service until ctx ends, then stops it within 10 s: readiness
// first, then out of the registry, the consumer, the parts of Go, HTTP, and last
// the relay, when it has published what is committed.
func (s *Service) Run(ctx context.Context) error {
	defer s.close()
	if err := react.Validate(s.reactions, s.spec.Topics); err != nil {
		return fmt.Errorf("%s: table of reactions: %w", s.spec.Name, err)
	}
	switch s.ask.mode {
	case modeDescribe:
		return describe(s.ask.out, s.spec, s.reactions)
	case modeMigrate:
		return s.ensureTopics(ctx, true)
	}
	ctx = failpoint.With(ctx, s.failpoint)
	if err := s.runSetup(ctx); err != nil {
		return err
	}
	parts, err := s.allParts()
	if err != nil {
		return fmt.Errorf("%s: %w", s.spec.Name, err)
	}
	return lifecycle.Run(ctx, s.logger, parts...)
}

func (s *Service) runSetup(ctx context.Context) error {
	for _, p := range s.setup {
		if err := s.until(ctx, p.Name, retryDatabase, p.Start); err != nil {
			return fmt.Errorf("%s: %w", s.spec.Name, err)
		}
	}
	return nil
}

// close gives back what Open took. The parts have stopped.
func (s *Service) close() {
	if s.bell != nil {
		s.bell.Close() //nolint:errcheck // as below
	}
	for _, db := range []*postgres.DB{s.relayDB, s.db} {
		if db != nil {
			db.Close() //nolint:errcheck // nothing is left to be done on it
		}
	}
	if s.broker != nil {
		s.broker.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), spanTime)
	defer cancel()
	if err := s.traces.Stop(ctx); err != nil {
		s.logger.InfoContext(ctx, "the last spans are lost", "error", err)
	}
}

// spanTime is how long the last spans may take to the collector at the stop.
const spanTime = 2 * time.Second

// checks are what /readyz asks. Kafka counts only until it was seen once: an
// outage of it must not take the service out of the load balancer.
func (s *Service) checks() []httpapi.Check {
	return []httpapi.Check{
		{Name: "not-leaving", Probe: func(context.Context) error {
			if s.stopping.Load() {
				return errors.New("the process is stopping")
			}
			return nil
		}},
		{Name: "database", Probe: func(ctx context.Context) error {
			if s.db == nil {
				return nil
			}
			return s.db.Ping(ctx)
		}},
		{Name: "topics", Probe: func(context.Context) error {
			select {
			case <-s.topicsReady:
				return nil
			default:
				return errors.New(s.missing("Kafka: not asked yet"))
			}
		}},
		{Name: "consumer", Probe: s.joined},
	}
}

// joined fails until the consumer was ready once.
func (s *Service) joined(ctx context.Context) error {
	if s.consumer == nil || s.consumed.Load() {
		return nil
	}
	err := s.consumer.Ready(ctx)
	s.consumed.Store(err == nil)
	return err
}

func (s *Service) missing(otherwise string) string {
	if p := s.waitingFor.Load(); p != nil {
		return *p
	}
	return otherwise
}

func (s *Service) topicNames() []string {
	var names []string
	for _, topic := range s.spec.Topics {
		names = append(names, topic)
	}
	return sorted(names)
}

// readTopics are the topics of the kinds that the reactions read.
func (s *Service) readTopics() []string {
	var names []string
	for _, r := range s.reactions {
		if r.Kind == "" {
			continue
		}
		if topic, err := s.spec.Topics.Of(r.Kind); err == nil {
			names = append(names, topic)
		}
	}
	return sorted(names)
}

// sources names the one source of each topic that has one.
func (s *Service) sources() map[string]string {
	sources := map[string]string{}
	for word, publisher := range s.spec.Publishers {
		if topic, ok := s.spec.Topics[word]; ok {
			sources[topic] = "/" + publisher
		}
	}
	return sources
}

// inNamespace puts the namespace before the name of each topic.
func inNamespace(namespace string, topics event.Topics) event.Topics {
	named := make(event.Topics, len(topics))
	for word, topic := range topics {
		named[word] = namespace + topic
	}
	return named
}

// group is the consumer group.
func (s *Service) group() string { return s.cfg.Namespace + s.spec.Name }

func (s *Service) source() string { return "/" + s.spec.Name }

// retryPause is the first pause between two tries of something that is missing.
const retryPause = 100 * time.Millisecond
