package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"pavane/internal/devstack"
	"pavane/migrations"
	"pavane/shared/broker"
	"pavane/shared/migrate"
	"pavane/shared/postgres"
)

const (
	partitions = 8
	template   = "bench_template" // with the tables of all ways
	workshop   = "bench_workshop" // the same with the rows that drains begin with
	stopTime   = 20 * time.Second
	// patience is for statements that fill whole tables.
	patience = 5 * time.Minute
)

// rig is what every section works with: the servers, and where figures go.
type rig struct {
	opts options
	sizes
	say     func(format string, args ...any)
	pg      *devstack.Postgres
	kafka   *devstack.Kafka
	admin   *postgres.DB
	found   *findings
	section string
	memory  memory
	trials  int // made so far; their names are numbered
}

// newRig starts the servers and makes the databases that each trial's is a copy of.
func newRig(ctx context.Context, o options, size sizes, say func(string, ...any)) (*rig, error) {
	r := &rig{opts: o, sizes: size, say: say, found: &findings{brief: o.quick}}
	if err := r.start(ctx); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return r, nil
}

// start starts both servers at once; Kafka takes longer than all the rest.
func (r *rig) start(ctx context.Context) error {
	progress := func(what string) { r.say("%s", what) }
	r.say("starting Postgres and Kafka")
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		r.kafka, err = devstack.StartKafka(ctx, devstack.KafkaConfig{Progress: progress, JVM: r.kafkaJVM()})
		return err
	})
	group.Go(func() (err error) {
		r.pg, err = devstack.StartPostgres(ctx, devstack.PostgresConfig{Progress: progress, Settings: map[string]string{
			"shared_buffers": "1GB", "max_wal_size": "8GB",
		}})
		if err != nil {
			return err
		}
		if r.admin, err = r.open("postgres", 2, nil); err != nil {
			return err
		}
		return r.makeTemplates(ctx)
	})
	return group.Wait()
}

func (r *rig) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	var errs []error
	if r.admin != nil {
		errs = append(errs, r.admin.Close())
	}
	if r.kafka != nil {
		errs = append(errs, r.kafka.Stop(ctx))
	}
	if r.pg != nil {
		errs = append(errs, r.pg.Stop(ctx))
	}
	errs = append(errs, r.memory.close())
	return errors.Join(errs...)
}

func (r *rig) open(database string, conns int, settings map[string]string) (*postgres.DB, error) {
	return postgres.Open(postgres.Config{
		URL: r.pg.URL(database), MaxConns: conns, Name: "pavane-bench", StatementTimeout: patience, Settings: settings,
	})
}

// client returns a client of the broker that sees only topic.
func (r *rig) client(topic string) (*broker.Client, error) {
	return broker.Dial(broker.Config{Brokers: []string{r.kafka.Addr()}, Topics: []string{topic}})
}

func (r *rig) makeTemplates(ctx context.Context) error {
	if err := r.pg.CreateDatabase(ctx, template); err != nil {
		return err
	}
	err := r.with(template, func(db *postgres.DB) error {
		if err := migrate.Up(ctx, db.SQL(), migrations.Kit(), "goose_kit"); err != nil {
			return err
		}
		return execute(ctx, db, tablesSQL)
	})
	if err != nil {
		return err
	}
	r.say("making %d rows", r.work)
	if err := r.copy(ctx, workshop, template); err != nil {
		return err
	}
	return r.with(workshop, func(db *postgres.DB) error { return storeWork(ctx, db, r.work) })
}

// with calls fn with a pool that is closed afterwards: a database cannot be copied
// while a connection to it is open.
func (r *rig) with(database string, fn func(*postgres.DB) error) error {
	db, err := r.open(database, 2, nil)
	if err != nil {
		return err
	}
	return errors.Join(fn(db), db.Close())
}

func (r *rig) copy(ctx context.Context, database, from string) error {
	// A statement of its own: CREATE DATABASE refuses to run in a transaction.
	if _, err := r.admin.SQL().ExecContext(ctx, "create database "+database+" template "+from+" strategy file_copy"); err != nil {
		return fmt.Errorf("database of a trial: %w", err)
	}
	return nil
}

// trial is a fresh database and a fresh topic for one thing to measure.
type trial struct {
	*rig
	way    way
	name   string // of the database and of the topic
	db     *postgres.DB
	client *broker.Client
	// brokenIn is what the topic held before the trial; nil: nothing.
	brokenIn []broker.Range
}

// newTrial makes them; the caller ends it.
func (r *rig) newTrial(ctx context.Context, w way) (*trial, error) {
	return r.trialFrom(ctx, template, w)
}

// newFilled makes one whose outbox holds rows that wait.
func (r *rig) newFilled(ctx context.Context, w way, rows int) (*trial, error) {
	t, err := r.trialFrom(ctx, workshop, w)
	if err != nil {
		return nil, err
	}
	if err := t.fill(ctx, rows); err != nil {
		return nil, errors.Join(err, t.end())
	}
	return t, nil
}

func (r *rig) trialFrom(ctx context.Context, from string, w way) (*trial, error) {
	r.trials++
	t := &trial{rig: r, way: w, name: fmt.Sprintf("bench_%d", r.trials)}
	if err := r.copy(ctx, t.name, from); err != nil {
		return nil, err
	}
	var err error
	if t.db, err = r.open(t.name, 16, nil); err != nil {
		return nil, errors.Join(err, t.end())
	}
	if t.client, err = r.client(t.name); err != nil {
		return nil, errors.Join(err, t.end())
	}
	if err := t.client.EnsureTopics(ctx, []broker.Topic{{Name: t.name, Partitions: partitions}}); err != nil {
		return nil, errors.Join(err, t.end())
	}
	return t, nil
}

// kafkaJVM are the options with which Kafka's own scripts start a broker. A short run
// would measure little but Java's better compiler at work, so there it has the faster
// one alone.
func (r *rig) kafkaJVM() []string {
	flags := []string{"-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"}
	if r.opts.quick {
		flags = append(flags, "-XX:TieredStopAtLevel=1")
	}
	return flags
}

// calm lets a measured part begin on a machine that owes it nothing: the kernel
// writes what is dirty, which it does half a minute later otherwise, and a commit that
// meets it waits for 40 to 260 ms; and there is memory at hand.
func (r *rig) calm(ctx context.Context) error {
	if err := exec.CommandContext(ctx, "sync").Run(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return r.memory.add(r.backed)
}

// end drops the database. The topic stays; it ends with the broker.
func (t *trial) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if t.client != nil {
		t.client.Close()
	}
	if t.db != nil {
		if err := t.db.Close(); err != nil {
			return err
		}
	}
	_, err := t.admin.SQL().ExecContext(ctx, "drop database "+t.name+" with (force)")
	return err
}

// execute runs statements in a transaction.
func execute(ctx context.Context, db *postgres.DB, query string, args ...any) error {
	return db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
}

// settle vacuums a table and writes out what is dirty, so that the trial does not
// pay for what was done before it.
func (t *trial) settle(ctx context.Context, table string) error {
	for _, statement := range []string{"vacuum analyze " + table, "checkpoint"} {
		if _, err := t.db.SQL().ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// self is the program of the processes under test: this one.
func self() (string, error) { return os.Executable() }
