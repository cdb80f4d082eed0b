package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/bench"
	"pavane/cmd/pavane/internal/stack"
	"pavane/internal/audit"
	"pavane/internal/devstack"
	"pavane/shared/postgres"
)

// benchSettle is how long the system may work off what the load has left: a run
// beyond its limits ends with a backlog, which is no difference.
const benchSettle = 60 * time.Second

type benchOptions struct {
	up        upOptions
	load      bench.Config
	realKafka bool
	json      bool
}

func benchCommand() *cobra.Command {
	c := &cobra.Command{Use: "bench", Short: "Measure a fresh stack", Args: cobra.NoArgs}
	c.AddCommand(benchSagaCommand())
	return c
}

func benchSagaCommand() *cobra.Command {
	var o benchOptions
	c := &cobra.Command{
		Use:   "saga",
		Short: "Measure from POST to confirmed at a constant rate, and where the time goes",
		Long: `Starts a fresh stack, warms it up, places orders on a constant schedule whether
or not those before are answered, and measures each from the moment it was due
until the answer that it is confirmed. Then it tells from the services' own
tables where the time went, what each process cost, and audits what is left.
Postgres flushes to disk as in production; bench/README.md tells the method.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runBench(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.Float64Var(&o.load.Rate, "rate", 50, "orders per second")
	f.DurationVar(&o.load.For, "for", 30*time.Second, "how long to measure")
	f.DurationVar(&o.load.WarmUp, "warm-up", 8*time.Second, "load before anything counts")
	f.IntVar(&o.load.Sample, "sample", 200, "orders whose way is looked at hop by hop; 0: none")
	f.StringVar(&o.up.postgres, "postgres", "", "URL of a Postgres to use that holds no databases of a demo, with a user that may create them; empty: an embedded one")
	f.StringVar(&o.up.kafka, "kafka", "", "host:port list of a Kafka to use; empty: an embedded broker")
	f.BoolVar(&o.realKafka, "real-kafka", false, "start an Apache Kafka for the run; needs Java 17 and Maven")
	f.BoolVar(&o.json, "json", false, "print JSON lines; progress goes to standard error")
	c.MarkFlagsMutuallyExclusive("kafka", "real-kafka")
	return c
}

func (o benchOptions) check() error {
	paced := o.load.Rate > 0 && o.load.Rate <= 10000 // false for what is no number, too
	if !paced || o.load.For < time.Second || o.load.For > time.Hour || o.load.WarmUp < 0 || o.load.Sample < 0 {
		return errors.New("bench: want --rate above 0 and up to 10000, --for from 1s to 1h, --warm-up and --sample from 0 on")
	}
	return nil
}

// runBench runs the benchmark on fresh data, which goes away with it.
func runBench(ctx context.Context, o benchOptions, out, progress io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	if !o.json {
		progress = out
	}
	p := newPrinter(progress)
	stopKafka, err := o.startKafka(ctx, p)
	if err != nil {
		return err
	}
	defer stopKafka()
	if err := refuseUsed(ctx, o.up.postgres); err != nil {
		return err
	}
	s, dir, err := startFresh(ctx, "bench", o.up, stack.Config{
		Namespace: benchNamespace(o.up.kafka), Env: []string{"PAVANE_LOG_LEVEL=warn"},
		OnExit: func(e stack.Exit) { p.say("%s ended: %s", e.Service, e.How) },
	}, p)
	if err != nil {
		return err
	}
	ok, err := measure(ctx, s, o, out, p)
	err = errors.Join(err, stop(s))
	switch {
	case err != nil:
		p.say("data and logs are in %s", dir)
		return err
	case !ok:
		p.say("bench: FAILED; the services' logs are in %s", filepath.Join(dir, "logs"))
		return errVerdict
	}
	return os.RemoveAll(dir)
}

// startKafka starts a real broker where one is asked for.
func (o *benchOptions) startKafka(ctx context.Context, p *printer) (stop func(), err error) {
	if !o.realKafka {
		return func() {}, nil
	}
	defer p.alive("starting Kafka")()
	k, err := devstack.StartKafka(ctx, devstack.KafkaConfig{Progress: func(what string) { p.say("%s", what) }})
	if err != nil {
		return nil, err
	}
	p.say("Apache Kafka at %s", k.Addr())
	o.up.kafka, o.load.Extra = k.Addr(), map[string]int{"kafka": k.Pid()}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		if err := k.Stop(ctx); err != nil {
			p.say("%v", err)
		}
	}, nil
}

// measure runs the load and prints what it came to. The verdict is false when
// orders failed or the audit found a difference.
func measure(ctx context.Context, s *stack.Stack, o benchOptions, out io.Writer, p *printer) (bool, error) {
	o.load.Progress = p.say
	r, err := bench.Run(ctx, s.State(), o.load)
	if err != nil {
		return false, err
	}
	quiet := p.alive("auditing")
	state := s.State()
	v, err := audit.Run(ctx, audit.Source{Postgres: state.Postgres, Kafka: state.Kafka, Namespace: state.Namespace, Provider: state.Provider}, benchSettle)
	quiet()
	if err != nil {
		return false, err
	}
	if o.json {
		err = errors.Join(r.WriteJSON(out), json.NewEncoder(out).Encode(map[string]any{"kind": "audit", "data": v}))
	} else {
		fmt.Fprintln(out)
		err = r.Print(out)
		fmt.Fprintln(out)
		printVerdict(out, v)
	}
	return v.Clean && r.Errors == 0, err
}

// benchNamespace begins the names of topics on a Kafka that was there before.
func benchNamespace(kafka string) string { return smokeNamespace(kafka) }

// refuseUsed refuses a server with data: the outboxes there speak of other
// topics, and the audit would rightly find that they are not in them.
func refuseUsed(ctx context.Context, server string) error {
	if server == "" {
		return nil
	}
	db, err := postgres.Open(postgres.Config{URL: server, MaxConns: 1, Name: "pavane-bench"})
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // it was only read
	for _, d := range stack.Databases() {
		var there bool
		if err := db.SQL().QueryRowContext(ctx, `select exists (select from pg_database where datname = $1)`, d.Name).Scan(&there); err != nil {
			return fmt.Errorf("look for database %s: %w", d.Name, err)
		}
		if there {
			return fmt.Errorf("the Postgres given holds a database %q already; give one without, the benchmark begins with empty databases", d.Name)
		}
	}
	return nil
}
