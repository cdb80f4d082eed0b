package service

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"pavane/migrations"
	"pavane/shared/fault"
	"pavane/shared/httpapi"
	"pavane/shared/migrate"
	"pavane/shared/outbox"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

const (
	maxRetryPause = time.Second
	logEvery      = 5 * time.Second
)

// until calls f until it succeeds, ctx ends or its error is one that retry does
// not want to see again. It logs the first failure and then one every few
// seconds, and tells /readyz.
func (s *Service) until(ctx context.Context, what string, retry func(error) bool, f func(context.Context) error) error {
	var logged time.Time
	for pause := retryPause; ; pause = min(2*pause, maxRetryPause) {
		err := f(ctx)
		if err == nil {
			s.waitingFor.Store(nil)
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), err)
		}
		if !retry(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		missing := fmt.Sprintf("%s: %v", what, err)
		s.waitingFor.Store(&missing)
		if time.Since(logged) >= logEvery {
			logged = time.Now()
			s.logger.WarnContext(ctx, "waiting", "for", what, "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), err)
		}
	}
}

func always(error) bool { return true }

// retryDatabase tells a database that is not there yet from one that refuses.
func retryDatabase(err error) bool {
	return postgres.Retryable(err) || fault.ClassOf(err) == fault.ClassUnavailable
}

// servicePool is the pool of the service's own statements. They are looked up by
// keys, again and again: planned once, with the indexes, whatever the tables hold
// at that moment. Planned each time, a short statement costs half as much again.
// The relay has a pool of its own, so that neither starves the other.
func servicePool(url, name string, conns int) postgres.Config {
	return postgres.Config{
		URL: url, Name: name, MaxConns: conns,
		Settings: map[string]string{"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off"},
	}
}

// migrationPool is the pool of the migrations. One of them may take hours, and no
// limit of the service's statements holds for it. But whoever comes behind a
// statement that waits for a lock waits with it, so such a wait is short; the
// migration is rolled back then and tried again.
func migrationPool(url, name string) postgres.Config {
	return postgres.Config{
		URL: url, Name: name + "-migrate", MaxConns: 2, StatementTimeout: 24 * time.Hour,
		Settings: map[string]string{"lock_timeout": "1s", "idle_in_transaction_session_timeout": "30s"},
	}
}

// openDatabase makes the pools, waits for the server and applies the migrations.
func (s *Service) openDatabase(ctx context.Context) error {
	if s.cfg.Database == "" {
		return fmt.Errorf("%s_DATABASE is not set: set it to postgres://user:password@host:port/database, or %s_DATABASE_FILE to a file that holds it", Prefix, Prefix)
	}
	var err error
	if s.db, err = postgres.Open(servicePool(s.cfg.Database, s.spec.Name, s.cfg.MaxConns)); err != nil {
		return err
	}
	if s.relayDB, err = postgres.Open(s.relayPool()); err != nil {
		return err
	}
	room, err := s.openWaitingRoom(ctx)
	if err != nil {
		return err
	}
	defer room.Close() //nolint:errcheck // its requests get an answer or try again
	// A refused login or a missing database is waited for, too: both may be
	// made by the same step that starts the server.
	if err := s.until(ctx, "database", always, s.db.Ping); err != nil {
		return err
	}
	if err := s.awaitMigrations(ctx); err != nil {
		return err
	}
	s.admission, err = relay.NewAdmission(relay.AdmissionConfig{DB: s.relayDB, Rows: s.cfg.MaxBacklog, Age: s.cfg.MaxBacklogAge, Metrics: s.metrics})
	if err != nil {
		return err
	}
	s.outbox, err = outbox.New(outbox.Config{Source: s.source(), Topics: s.spec.Topics, Tracer: s.tracer, Metrics: s.metrics})
	return err
}

func (s *Service) relayPool() postgres.Config {
	pool := relay.Pool(s.cfg.Database)
	pool.Name = s.spec.Name + "-relay"
	return pool
}

// MigrationSets are the migrations of the kit and those of a service, own, each with
// the table that keeps which of them are applied. Own is nil for a service without.
func MigrationSets(name string, own fs.FS) []migrate.Set {
	sets := []migrate.Set{{Table: "migrations_kit", Files: migrations.Kit()}}
	if own != nil {
		sets = append(sets, migrate.Set{Table: "migrations_" + strings.TrimSuffix(name, "-svc"), Files: own})
	}
	return sets
}

// awaitMigrations applies the migrations, or waits for who does.
func (s *Service) awaitMigrations(ctx context.Context) error {
	sets := MigrationSets(s.spec.Name, s.spec.Migrations)
	if s.cfg.Migrate || s.ask.mode == modeMigrate {
		return s.applyMigrations(ctx, sets)
	}
	missing := func(err error) bool { return errors.Is(err, migrate.ErrMissing) || retryDatabase(err) }
	return s.until(ctx, "migrations", missing, func(ctx context.Context) error { return migrate.Ready(ctx, s.db.SQL(), sets...) })
}

// applyMigrations tries until they are applied. One whose statement was cancelled
// is not tried again: it would need as long the next time, and hold its locks.
func (s *Service) applyMigrations(ctx context.Context, sets []migrate.Set) error {
	db, err := postgres.Open(migrationPool(s.cfg.Database, s.spec.Name))
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // nothing is left to be done on it
	retry := func(err error) bool { return retryDatabase(err) && !postgres.Cancelled(err) }
	err = s.until(ctx, "migrations", retry, func(ctx context.Context) error { return s.migrate(ctx, db.SQL(), sets) })
	if postgres.Cancelled(err) && ctx.Err() == nil {
		return fmt.Errorf("%w: take statement_timeout out of the database's URL, which is for all statements, or look who cancelled it", err)
	}
	return err
}

func (s *Service) migrate(ctx context.Context, db *sql.DB, sets []migrate.Set) error {
	for _, set := range sets {
		if err := migrate.Up(ctx, db, set.Files, set.Table); err != nil {
			return err
		}
	}
	if s.cfg.RuntimeRole == "" {
		return nil
	}
	return migrate.Grant(ctx, db, s.cfg.RuntimeRole, sets...)
}

// openWaitingRoom serves health at the service's address while its routes do not
// exist yet: alive, and not ready for a reason that it names.
func (s *Service) openWaitingRoom(ctx context.Context) (*http.Server, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.cfg.HTTPAddr)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w: choose a free host:port", s.cfg.HTTPAddr, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		httpapi.WriteProblem(w, r, http.StatusServiceUnavailable, "starting; waiting for "+s.missing("the database"))
	})
	room := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go room.Serve(l) //nolint:errcheck // ends with Close
	return room, nil
}

func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
