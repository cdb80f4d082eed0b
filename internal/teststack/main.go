// Command teststack runs a command, as a rule `go test ./...`, with one Postgres for all its test packages and, if
// asked, one real Kafka:
//
//	go run ./internal/teststack [-kafka | -kafka-version 3.9.1] [-postgres 14.19.0] [-collation en-US] -- go test ./...
//
// It names them in PAVANE_POSTGRES and PAVANE_KAFKA, passes the command's exit code on, and ends the servers however
// the command or it itself ends. A server that these variables name already is used as it is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"pavane/internal/devstack"
)

const (
	startPatience = 10 * time.Minute // a first start may fetch Postgres and Kafka
	stopPatience  = 20 * time.Second
	// failed is the exit code for our own faults, as a shell's "cannot execute".
	failed = 126
)

// stack is what the flags ask for and what has been started of it.
type stack struct {
	kafka           bool
	optional        bool
	kafkaVersion    string
	postgresVersion string
	collation       string
	stops           []func(context.Context) error
}

func main() { os.Exit(run()) }

// run returns the exit code.
func run() int {
	var s stack
	flag.BoolVar(&s.kafka, "kafka", false, "also start a real Apache Kafka; fail when this machine cannot run it")
	flag.BoolVar(&s.optional, "kafka-optional", false, "like -kafka, but run nothing and succeed when this machine cannot run it")
	flag.StringVar(&s.kafkaVersion, "kafka-version", "", "like -kafka, but fetch and run this one, such as 3.9.1")
	flag.StringVar(&s.postgresVersion, "postgres", "", "the Postgres to fetch and run, such as 14.19.0; empty: the machine's own")
	flag.StringVar(&s.collation, "collation", "", "ICU locale that Postgres orders text by; empty: by its bytes")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "teststack: give a command to run: teststack [-kafka] -- go test ./...")
		return failed
	}
	// Caught from the start: a signal must never end us past the servers.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	if s.optional && os.Getenv("PAVANE_KAFKA") == "" {
		if err := devstack.HaveKafka(context.Background()); err != nil {
			fmt.Fprintf(os.Stderr, "teststack: SKIPPED on a real Kafka: %v\n", err)
			return 0
		}
	}
	defer s.stop()
	if err := s.start(signals); err != nil {
		fmt.Fprintln(os.Stderr, "teststack:", err)
		return failed
	}
	code, err := command(flag.Args(), signals)
	if err != nil {
		fmt.Fprintln(os.Stderr, "teststack:", err)
	}
	return code
}

// start starts the servers and names them in the environment. A signal breaks it off.
func (s *stack) start(signals <-chan os.Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(s.startPostgres(ctx), s.startKafka(ctx)) }()
	select {
	case err := <-ended:
		return err
	case sig := <-signals:
		cancel()
		return errors.Join(fmt.Errorf("stopped by signal: %s", sig), <-ended)
	}
}

func (s *stack) startPostgres(ctx context.Context) error {
	if os.Getenv("PAVANE_POSTGRES") != "" {
		return nil
	}
	// Test packages run in parallel, each with several pools.
	p, err := devstack.StartPostgres(ctx, devstack.PostgresConfig{
		NoSync: true, Version: s.postgresVersion, Collation: s.collation, Progress: progress, Settings: map[string]string{"max_connections": "600"},
	})
	if err != nil {
		return err
	}
	s.stops = append(s.stops, p.Stop)
	return os.Setenv("PAVANE_POSTGRES", p.URL("postgres"))
}

func (s *stack) startKafka(ctx context.Context) error {
	if !s.kafka && !s.optional && s.kafkaVersion == "" || os.Getenv("PAVANE_KAFKA") != "" {
		return nil
	}
	k, err := devstack.StartKafka(ctx, devstack.KafkaConfig{Version: s.kafkaVersion, Progress: progress})
	if err != nil {
		return err
	}
	s.stops = append(s.stops, k.Stop)
	return os.Setenv("PAVANE_KAFKA", k.Addr())
}

// stop stops what has been started.
func (s *stack) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	for _, stop := range s.stops {
		if err := stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "teststack:", err)
		}
	}
}

// command runs args in our process group, so that Ctrl-C reaches them too, and returns their exit code. Signals sent
// to us alone are passed on; a second one kills.
func command(args []string, signals <-chan os.Signal) (int, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return failed, fmt.Errorf("run %s: %w", args[0], err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for caught := 0; ; {
		select {
		case sig := <-signals:
			caught++
			if caught > 1 {
				sig = os.Kill
			}
			_ = cmd.Process.Signal(sig)
		case err := <-done:
			return exitCode(err)
		}
	}
}

// exitCode turns what Wait says into an exit code: a signal's is 128 and its number, as in a shell.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		if err != nil {
			return failed, err
		}
		return 0, nil
	}
	if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return 128 + int(st.Signal()), nil
	}
	return exit.ExitCode(), nil
}

func progress(s string) { fmt.Fprintln(os.Stderr, "teststack:", s) }
