package outage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"pavane/internal/await"
	"pavane/internal/demo"
	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/lifecycle"
	"pavane/shared/outbox"
	"pavane/shared/postgres"
	"pavane/shared/react"
	"pavane/shared/relay"
	"pavane/shared/telemetry"
)

const (
	jobEnv     = "PAVANE_OUTAGE_JOB"
	topic      = "facts"
	partitions = 6
)

// fact is the event of these tests. Token names the transaction that wrote it.
type fact struct {
	ID       string `json:"id"`
	Sequence int64  `json:"sequence"`
	Token    string `json:"token"`
	Filler   string `json:"filler"`
}

func (fact) Kind() string  { return "fact.told.v1" }
func (f fact) Key() string { return f.ID }

func topics() event.Topics { return event.Topics{"fact": topic} }

// job is what a process of these tests is told over its environment.
type job struct {
	Role     string // "relay" or "consumer"
	Database string
	Brokers  []string
	Port     string // file for the address of its metrics
}

// work is the life of such a process.
func work(spec string) error {
	var j job
	if err := json.Unmarshal([]byte(spec), &j); err != nil {
		return err
	}
	ctx, stop := lifecycle.Signals(context.Background())
	defer stop()
	metrics := prometheus.NewRegistry()
	if err := j.serve(metrics); err != nil {
		return err
	}
	client, err := broker.Dial(broker.Config{Brokers: j.Brokers, Topics: []string{topic}, Logger: j.logger()})
	if err != nil {
		return err
	}
	defer client.Close()
	if j.Role == "relay" {
		return j.relay(ctx, client, metrics)
	}
	return j.consume(ctx, client, metrics)
}

func (j job) logger() *slog.Logger {
	return telemetry.Logger(os.Stderr, j.Role, telemetry.LogConfig{Format: "text"})
}

func (j job) serve(metrics *prometheus.Registry) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(l, promhttp.HandlerFor(metrics, promhttp.HandlerOpts{})) //nolint:errcheck // it ends with the process
	return os.WriteFile(j.Port, []byte(l.Addr().String()), 0o600)
}

func (j job) relay(ctx context.Context, client *broker.Client, metrics *prometheus.Registry) error {
	db, err := postgres.Open(relay.Pool(j.Database))
	if err != nil {
		return err
	}
	defer db.Close()
	r, err := relay.New(relay.Config{DB: db, Publisher: client, Partitions: partitions, Logger: j.logger(), Metrics: metrics})
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

func (j job) consume(ctx context.Context, client *broker.Client, metrics *prometheus.Registry) error {
	db, err := postgres.Open(postgres.Config{URL: j.Database})
	if err != nil {
		return err
	}
	defer db.Close()
	out, err := outbox.New(outbox.Config{Source: "/reader", Topics: topics()})
	if err != nil {
		return err
	}
	apply := func(ctx context.Context, tx *sqlx.Tx, f fact) ([]event.Numbered, error) {
		_, err := tx.ExecContext(ctx, `insert into effect (key, sequence, token) values ($1, $2, $3)`, f.ID, f.Sequence, f.Token)
		return nil, err
	}
	c, err := react.NewConsumer(react.ConsumerConfig{
		Service: "reader", DB: db, Outbox: out, Source: client, Topics: []string{topic}, Partitions: partitions,
		Reactions: []react.Reaction{react.On(apply)}, Session: session, Logger: j.logger(), Metrics: metrics,
	})
	if err != nil {
		return err
	}
	return c.Run(ctx)
}

// process is one of these tests' own processes.
type process struct {
	job
	log string
}

// startJob starts the test's binary again, for a job. What it says is shown when the test fails.
func startJob(t *testing.T, j job) *process {
	t.Helper()
	dir := t.TempDir()
	j.Port = filepath.Join(dir, "port")
	b, err := json.Marshal(j)
	must(t, err)
	p := &process{job: j, log: filepath.Join(dir, "log")}
	log, err := os.Create(p.log)
	must(t, err)
	defer log.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), jobEnv+"="+string(b))
	cmd.Stdout, cmd.Stderr = log, log
	child, err := demo.StartChild(cmd, syscall.SIGKILL)
	must(t, err)
	t.Cleanup(func() {
		if err := child.Stop(); err != nil {
			t.Errorf("%s process: %v", j.Role, err)
		}
		if t.Failed() {
			t.Logf("%s process, the end of what it said:\n%s", j.Role, tail(p.log))
		}
	})
	return p
}

func tail(file string) []byte {
	b, _ := os.ReadFile(file)
	return b[max(0, len(b)-6000):]
}

// metric reads one of its counters, 0 while it is not there.
func (p *process) metric(t *testing.T, name string) (value float64) {
	t.Helper()
	addr, err := os.ReadFile(p.Port)
	must(t, err)
	res, err := http.Get("http://" + string(addr))
	must(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	for line := range bytes.Lines(b) {
		if rest, ok := strings.CutPrefix(string(line), name+" "); ok {
			value, err = strconv.ParseFloat(strings.TrimSpace(rest), 64)
			must(t, err)
		}
	}
	return value
}

func (p *process) awaitServing(t *testing.T) {
	t.Helper()
	await.True(t, 30*time.Second, fmt.Sprintf("the %s process runs", p.Role), func() bool {
		b, err := os.ReadFile(p.Port)
		return err == nil && len(b) > 0
	})
}
