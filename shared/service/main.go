package service

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pavane/shared/config"
	"pavane/shared/event"
	"pavane/shared/lifecycle"
	"pavane/shared/react"
)

// mode is what a process was asked to do.
type mode int

const (
	modeServe    mode = iota
	modeDescribe      // print the table of reactions; touch nothing
	modeMigrate       // bring database and topics up to date, then end
)

type askKey struct{}

// ask is what the flags have asked for.
type ask struct {
	mode mode
	out  io.Writer // where a description goes
}

func asked(ctx context.Context) ask {
	a, _ := ctx.Value(askKey{}).(ask)
	return a
}

// healthTimeout is how long -healthcheck waits for an answer.
const healthTimeout = 3 * time.Second

// Main is the whole of a service's func main: it reads the flags, calls run with
// a context that ends on SIGTERM or SIGINT, prints an error as one line and ends
// the process, with status 1 when there was one. run loads the config, opens the
// Service, wires the domain and returns [Service.Run].
//
//	-describe     print the table of reactions as JSON; needs no connection
//	-migrate      apply the migrations, create the topics, and end
//	-healthcheck  ask the running instance's /readyz, for a container's healthcheck
//
// With -describe run must get by without a database: what it does between Open
// and Run may use [Service.DB] only inside functions given to Setup, Go, React or
// the routes.
func Main(run func(ctx context.Context) error) {
	ctx, stop := lifecycle.Signals(context.Background())
	err := execute(ctx, os.Args, os.Stdout, os.Stderr, run)
	stopped := ctx.Err() != nil && errors.Is(err, context.Canceled) // while it still waited for something
	stop()
	if err != nil && !stopped {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

func execute(ctx context.Context, args []string, out, usageOut io.Writer, run func(ctx context.Context) error) error {
	flags := flag.NewFlagSet(filepath.Base(args[0]), flag.ContinueOnError)
	flags.SetOutput(usageOut)
	describe := flags.Bool("describe", false, "print the table of reactions as JSON and end; needs no connection")
	migrate := flags.Bool("migrate", false, "apply the migrations, create the topics, and end")
	health := flags.Bool("healthcheck", false, "ask the /readyz of the instance at "+Prefix+"_HTTP_ADDR and end")
	flags.Usage = func() { usage(flags) }
	if err := flags.Parse(args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q; the settings come from environment variables, see -help", flags.Arg(0))
	case *health:
		return healthcheck(ctx)
	case *describe:
		ctx = context.WithValue(ctx, askKey{}, ask{modeDescribe, out})
	case *migrate:
		ctx = context.WithValue(ctx, askKey{}, ask{modeMigrate, out})
	}
	return run(ctx)
}

func usage(flags *flag.FlagSet) {
	flags.PrintDefaults()
	if text, err := config.Help(Prefix, &Config{}); err == nil {
		fmt.Fprintf(flags.Output(), "\nEnvironment variables of every service:\n%s", text)
	}
}

// healthcheck asks the instance that serves under the same configuration.
func healthcheck(ctx context.Context) error {
	var cfg Config
	if err := config.Load(Prefix, &cfg); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(cfg.HTTPAddr)
	if err != nil || port == "0" {
		return fmt.Errorf("healthcheck: %s_HTTP_ADDR=%q names no fixed port; set one", Prefix, cfg.HTTPAddr)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz?verbose", nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
		return fmt.Errorf("healthcheck: %s: %s", res.Status, strings.Join(strings.Fields(string(body)), " "))
	}
	return nil
}

// Description is a service's part of the saga as -describe prints it.
type Description struct {
	Service   string             `json:"service"`
	Version   string             `json:"version"`
	Reactions []ReactionOverview `json:"reactions"`
	Events    []EventOverview    `json:"events"` // that it may emit, each once
}

// EventOverview is what the whole of a saga is checked by: a failure needs
// somebody who takes something back, and who does must have done it.
type EventOverview struct {
	Kind    string `json:"kind"`
	Failure bool   `json:"failure,omitempty"` // it tells of a refusal
	Undoes  string `json:"undoes,omitempty"`  // the kind that it takes back
}

// ReactionOverview is one row of the table of reactions.
type ReactionOverview struct {
	On     string   `json:"on,omitempty"`     // the kind it reads
	Origin string   `json:"origin,omitempty"` // what starts it when no event does
	Emits  []string `json:"emits"`            // the kinds it may emit
}

func overview(e event.Event) EventOverview {
	o := EventOverview{Kind: e.Kind()}
	_, o.Failure = e.(event.Failure)
	if c, ok := e.(event.Compensation); ok {
		o.Undoes = c.Undoes()
	}
	return o
}

func describe(w io.Writer, spec Spec, reactions []react.Reaction) error {
	d := Description{Service: spec.Name, Version: spec.Version, Reactions: []ReactionOverview{}, Events: []EventOverview{}}
	seen := map[string]bool{}
	for _, r := range reactions {
		o := ReactionOverview{On: r.Kind, Origin: r.Origin, Emits: []string{}}
		for _, e := range r.Emits {
			o.Emits = append(o.Emits, e.Kind())
			if !seen[e.Kind()] {
				seen[e.Kind()] = true
				d.Events = append(d.Events, overview(e))
			}
		}
		d.Reactions = append(d.Reactions, o)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		return fmt.Errorf("describe: %w", err)
	}
	return nil
}
