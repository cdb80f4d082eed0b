package service

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
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/internal/devstack"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/config"
	"pavane/shared/event"
	"pavane/shared/httpapi"
	"pavane/shared/pgtest"
	"pavane/shared/react"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const patience = 20 * time.Second

// ping is the one event of the service under test, which reads it itself.
type ping struct {
	ID string `json:"id"`
}

func (ping) Kind() string  { return "ping.sent.v1" }
func (p ping) Key() string { return p.ID }

func spec() Spec {
	return Spec{
		Name: "ping-svc", Version: "1", Topics: event.Topics{"ping": "pings.v1"},
		Migrations: fstest.MapFS{
			"00001_init.sql": {Data: []byte("-- +goose Up\ncreate table seen (id text primary key);\n")},
			"grants.txt":     {Data: []byte("seen select, insert\n")},
		},
	}
}

// configured is the configuration of a service of this test alone.
func configured(t *testing.T, database, kafka string) Config {
	t.Helper()
	var cfg Config
	if err := config.Load(Prefix+"_TEST", &cfg); err != nil {
		t.Fatal(err)
	}
	port, err := devstack.FreePort(0)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Database, cfg.Brokers, cfg.HTTPAddr = database, []string{kafka}, fmt.Sprintf("127.0.0.1:%d", port)
	cfg.CreateTopics, cfg.Partitions, cfg.Namespace = true, 2, strings.ToLower(t.Name())+"."+event.NewID()+"."
	return cfg
}

// status asks a health route; 0 means that nobody answers.
func status(addr, route string) (int, string) {
	res, err := http.Get("http://" + addr + route) //nolint:noctx // a test
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	await.True(t, patience, what, ok)
}

// deaf is an address where nobody listens.
func deaf(t *testing.T) string {
	t.Helper()
	port, err := devstack.FreePort(0)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func TestOpen_WithoutDatabase_LivesNamesItAndWaits(t *testing.T) {
	t.Parallel()
	cfg := configured(t, "postgres://nobody@"+deaf(t)+"/none?sslmode=disable", deaf(t))
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error, 1)
	go func() {
		_, err := Open(ctx, cfg, spec())
		opened <- err
	}()
	eventually(t, "waiting room", func() bool { code, _ := status(cfg.HTTPAddr, "/livez"); return code == http.StatusOK })
	eventually(t, "readiness names the database", func() bool {
		code, text := status(cfg.HTTPAddr, "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(text, "connection refused")
	})
	cancel()
	if err := <-opened; !errors.Is(err, context.Canceled) {
		t.Fatalf("Open returned %v", err)
	}
}

// withMigration is the service under test with another table of its own.
func withMigration(sql string) Spec {
	s := spec()
	s.Migrations = fstest.MapFS{
		"00001_init.sql": {Data: []byte("-- +goose Up\n" + sql + ";\n")},
		"grants.txt":     {Data: []byte("")},
	}
	return s
}

func TestOpen_Migration_HasHoursToRunAndASecondToWaitForALock(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), configured(t, pgtest.URL(t), deaf(t)), withMigration(
		`create table limits as select current_setting('statement_timeout') || ', ' || current_setting('lock_timeout') as in_force`))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var migration, afterwards string
	if err := s.DB().Get(t.Context(), &migration, `select in_force from limits`); err != nil {
		t.Fatal(err)
	}
	if err := s.DB().Get(t.Context(), &afterwards, `select current_setting('statement_timeout')`); err != nil {
		t.Fatal(err)
	}
	if migration != "1d, 1s" || afterwards != "10s" {
		t.Errorf("a migration's statement and its wait for a lock may take %s, a statement of the service %s", migration, afterwards)
	}
}

func TestOpen_MigrationIsCancelled_EndsAndSaysWhatLimitsIt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cfg := configured(t, pgtest.URL(t)+"&statement_timeout=1s", deaf(t))
	if _, err := Open(ctx, cfg, withMigration(`select pg_sleep(60)`)); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "take statement_timeout out of the database's URL") {
		t.Errorf("Open returned %v", err)
	}
}

func TestRun_WithoutKafka_ServesAndSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	cfg := configured(t, pgtest.URL(t), deaf(t))
	s, err := Open(t.Context(), cfg, spec())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	eventually(t, "readiness names Kafka", func() bool {
		code, text := status(cfg.HTTPAddr, "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(text, "kafka") && strings.Contains(text, "[+]database ok")
	})
	if code, text := status(cfg.HTTPAddr, "/livez"); code != http.StatusOK {
		t.Fatalf("livez: %d %s", code, text)
	}
	if err := s.DB().InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		return s.Outbox().Append(ctx, tx, event.Number(1, ping{"a"})...)
	}); err != nil {
		t.Fatalf("an event was not taken while Kafka is away: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestRun_InAnotherNamespace_PublishesOnTheSameDatabase(t *testing.T) {
	t.Parallel()
	cfg := configured(t, pgtest.URL(t), brokertest.Start(t))
	for _, namespace := range []string{cfg.Namespace, "other." + cfg.Namespace} {
		cfg.Namespace = namespace
		s, err := Open(t.Context(), cfg, spec())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		eventually(t, "ready", func() bool { code, _ := status(cfg.HTTPAddr, "/readyz"); return code == http.StatusOK })
		if err := s.DB().InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			return s.Outbox().Append(ctx, tx, event.Number(1, ping{namespace})...)
		}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the event is in the log", func() bool { return logged(t, cfg) == 1 })
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// place is a route that takes new work, such as an order.
func place(s *Service, n *atomic.Int64) {
	httpapi.Register(s.HTTP(), huma.Operation{OperationID: "place", Method: http.MethodPost, Path: "/v1/pings", DefaultStatus: http.StatusCreated},
		func(ctx context.Context, _ *struct{}) (*struct{}, error) {
			if err := s.Admit(); err != nil {
				return nil, err
			}
			return nil, s.DB().InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
				return s.Outbox().Append(ctx, tx, event.Number(1, ping{fmt.Sprint("p-", n.Add(1))})...)
			})
		})
}

func TestAdmit_KafkaAwayAndTooMuchWaits_503UntilItIsBackAndAllAcceptedEnds(t *testing.T) {
	t.Parallel()
	addr := deaf(t)
	cfg := configured(t, pgtest.URL(t), addr)
	cfg.MaxBacklog = 25
	s, err := Open(t.Context(), cfg, spec())
	if err != nil {
		t.Fatal(err)
	}
	var placed atomic.Int64
	place(s, &placed)
	s.React(react.Origin("POST /v1/pings", ping{}), react.On(func(ctx context.Context, tx *sqlx.Tx, e ping) ([]event.Numbered, error) {
		_, err := tx.ExecContext(ctx, `insert into seen (id) values ($1)`, e.ID)
		return nil, err
	}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	post := func() (int, http.Header, string) {
		res, err := http.Post("http://"+cfg.HTTPAddr+"/v1/pings", "", nil) //nolint:noctx // a test
		if err != nil {
			return 0, nil, err.Error()
		}
		defer res.Body.Close() //nolint:errcheck // it was read
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, res.Header, string(b)
	}
	eventually(t, "refused", func() bool {
		code, header, text := post()
		if code != http.StatusServiceUnavailable || placed.Load() == 0 {
			return false
		}
		if header.Get("Retry-After") != "5" || header.Get("Content-Type") != "application/problem+json" ||
			!strings.Contains(text, httpapi.TypeBusy) || !strings.Contains(text, "the limit is 25") {
			t.Errorf("refused with %v %s", header, text)
		}
		return true
	})
	accepted := placed.Load()
	if accepted < 25 {
		t.Errorf("refused after %d, the limit is 25", accepted)
	}
	_, port, _ := net.SplitHostPort(addr)
	number, _ := strconv.Atoi(port)
	server, err := devstack.StartBroker(devstack.BrokerConfig{Port: number})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	eventually(t, "all that was accepted has ended, and new work is taken", func() bool {
		var seen int64
		if err := s.DB().Get(ctx, &seen, `select count(*) from seen`); err != nil {
			t.Fatal(err)
		}
		code, _, _ := post()
		return seen >= accepted && code == http.StatusCreated
	})
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// logged counts the records of the service's topic.
func logged(t *testing.T, cfg Config) (n int64) {
	t.Helper()
	c, err := broker.Dial(broker.Config{Brokers: cfg.Brokers})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	topic := cfg.Namespace + "pings.v1"
	ranges, err := c.Offsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range ranges[topic] {
		n += r.End
	}
	return n
}

func TestRun_EventGoesRoundAndStopPublishesWhatIsCommitted(t *testing.T) {
	t.Parallel()
	cfg := configured(t, pgtest.URL(t), brokertest.Start(t))
	s, err := Open(t.Context(), cfg, spec())
	if err != nil {
		t.Fatal(err)
	}
	var seen, seeded atomic.Int64
	s.Setup("seed", func(context.Context) error { seeded.Add(1); return nil })
	s.React(
		react.Origin("test", ping{}),
		react.On(func(ctx context.Context, tx *sqlx.Tx, e ping) ([]event.Numbered, error) {
			seen.Add(1)
			_, err := tx.ExecContext(ctx, `insert into seen (id) values ($1)`, e.ID)
			return nil, err
		}),
	)
	// It outlives the consumer at the stop, and commits one more event then.
	last := make(chan error, 1)
	s.Go("last words", func(ctx context.Context) error {
		<-ctx.Done()
		last <- s.DB().InTx(context.WithoutCancel(ctx), func(ctx context.Context, tx *sqlx.Tx) error {
			return s.Outbox().Append(ctx, tx, event.Number(1, ping{"last"})...)
		})
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	eventually(t, "ready", func() bool { code, _ := status(cfg.HTTPAddr, "/readyz"); return code == http.StatusOK })
	if err := s.DB().InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		return s.Outbox().Append(ctx, tx, event.Number(1, ping{"first"})...)
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the event came round", func() bool { return seen.Load() == 1 })
	if code, text := status(cfg.HTTPAddr, "/v1/story/first"); code != http.StatusOK || !strings.Contains(text, "ping.sent.v1") {
		t.Fatalf("story: %d %s", code, text)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := <-last; err != nil {
		t.Fatal(err)
	}
	if n := logged(t, cfg); n != 2 || seeded.Load() != 1 {
		t.Fatalf("%d of 2 events are in the log after the stop; seeded %d times", n, seeded.Load())
	}
}

// TestRun_RuntimeRole_WaitsForTheOwnersMigrationsThenWorks has the service run as a role that owns nothing.
func TestRun_RuntimeRole_WaitsForTheOwnersMigrationsThenWorks(t *testing.T) {
	t.Parallel()
	owner, runtime := pgtest.Roles(t)
	cfg := configured(t, runtime, brokertest.Start(t))
	cfg.Migrate, cfg.CreateTopics = false, false
	seen := make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	opened := make(chan *Service, 1)
	go func() {
		s, err := Open(ctx, cfg, spec())
		if err != nil {
			done <- err
			return
		}
		s.React(react.Origin("test", ping{}), react.On(func(ctx context.Context, tx *sqlx.Tx, e ping) ([]event.Numbered, error) {
			_, err := tx.ExecContext(ctx, `insert into seen (id) values ($1)`, e.ID)
			seen <- e.ID
			return nil, err
		}))
		opened <- s
		done <- s.Run(ctx)
	}()
	eventually(t, "readiness names the migrations", func() bool {
		code, text := status(cfg.HTTPAddr, "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(text, "migrations_kit") && strings.Contains(text, "-migrate")
	})
	as, err := url.Parse(runtime)
	if err != nil {
		t.Fatal(err)
	}
	migrating := cfg
	migrating.Database, migrating.RuntimeRole, migrating.HTTPAddr = owner, as.User.Username(), "127.0.0.1:0"
	if err := execute(t.Context(), []string{"ping-svc", "-migrate"}, io.Discard, io.Discard, runPing(migrating)); err != nil {
		t.Fatal(err)
	}
	s := <-opened
	eventually(t, "ready", func() bool { code, _ := status(cfg.HTTPAddr, "/readyz"); return code == http.StatusOK })
	if err := s.DB().InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		return s.Outbox().Append(ctx, tx, event.Number(1, ping{"first"})...)
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-seen:
	case err := <-done:
		t.Fatalf("the service ended: %v", err)
	case <-time.After(patience):
		t.Fatal("the event did not come round")
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestRun_TopicsOfAnotherShape_RefusesToRun(t *testing.T) {
	t.Parallel()
	cfg := configured(t, pgtest.URL(t), brokertest.Start(t))
	c, err := broker.Dial(broker.Config{Brokers: cfg.Brokers})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.EnsureTopics(t.Context(), []broker.Topic{{Name: cfg.Namespace + "pings.v1", Partitions: 3, ReplicationFactor: 1}}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), cfg, spec())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "has 3 partitions: want 2") {
		t.Fatalf("Run returned %v", err)
	}
}

// runPing is a service's run, with everything that main does.
func runPing(cfg Config) func(context.Context) error {
	return func(ctx context.Context) error {
		s, err := Open(ctx, cfg, spec())
		if err != nil {
			return err
		}
		s.Setup("seed", func(context.Context) error { return errors.New("seeded") })
		s.React(react.Origin("test", ping{}), react.On(func(context.Context, *sqlx.Tx, ping) ([]event.Numbered, error) { return nil, nil }))
		return s.Run(ctx)
	}
}

func TestMain_DescribePrintsTheTableWithoutAnyConnection(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := execute(t.Context(), []string{"ping-svc", "-describe"}, &out, io.Discard, runPing(Config{})); err != nil {
		t.Fatal(err)
	}
	var d Description
	if err := json.Unmarshal(out.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	if d.Service != "ping-svc" || len(d.Reactions) != 2 || d.Reactions[0].Emits[0] != "ping.sent.v1" || d.Reactions[1].On != "ping.sent.v1" {
		t.Fatalf("described %+v", d)
	}
}

// gone is a refusal that takes something back.
type gone struct{ ping }

func (gone) Kind() string   { return "ping.gone.v1" }
func (gone) Failure()       {}
func (gone) Undoes() string { return ping{}.Kind() }

func TestDescribe_RefusalsAndWhatTheyUndo_AreToldOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	rows := []react.Reaction{react.Origin("test", ping{}), react.Origin("a deadline", gone{}), react.Origin("a caller", gone{})}
	if err := describe(&out, Spec{Name: "ping-svc"}, rows); err != nil {
		t.Fatal(err)
	}
	var d Description
	if err := json.Unmarshal(out.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	want := []EventOverview{{Kind: "ping.sent.v1"}, {Kind: "ping.gone.v1", Failure: true, Undoes: "ping.sent.v1"}}
	if !slices.Equal(d.Events, want) {
		t.Errorf("events %+v, want %+v", d.Events, want)
	}
}

func TestMain_MigrateMakesTablesAndTopicsAndEnds(t *testing.T) {
	t.Parallel()
	cfg := configured(t, pgtest.URL(t), brokertest.Start(t))
	cfg.CreateTopics = false
	if err := execute(t.Context(), []string{"ping-svc", "-migrate"}, io.Discard, io.Discard, runPing(cfg)); err != nil {
		t.Fatal(err)
	}
	if n := logged(t, cfg); n != 0 {
		t.Fatalf("%d records", n)
	}
}

func TestMain_UnknownArgumentIsRefused(t *testing.T) {
	t.Parallel()
	err := execute(t.Context(), []string{"ping-svc", "serve"}, io.Discard, io.Discard, func(context.Context) error { return nil })
	if err == nil || !strings.Contains(err.Error(), `"serve"`) {
		t.Fatalf("err = %v", err)
	}
}

func TestMain_HealthcheckFollowsReadiness(t *testing.T) {
	for _, ready := range []bool{true, false} {
		srv := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if !ready {
				http.Error(w, "[-]database failed", http.StatusServiceUnavailable)
			}
		})}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go srv.Serve(l) //nolint:errcheck // ends with Close
		t.Setenv(Prefix+"_HTTP_ADDR", l.Addr().String())
		err = execute(t.Context(), []string{"ping-svc", "-healthcheck"}, io.Discard, io.Discard, nil)
		srv.Close() //nolint:errcheck // a test
		if ready != (err == nil) || !ready && !strings.Contains(err.Error(), "database failed") {
			t.Fatalf("ready %t: %v", ready, err)
		}
	}
}
