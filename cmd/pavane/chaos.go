package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/chaos"
	"pavane/cmd/pavane/internal/control"
	"pavane/cmd/pavane/internal/fault"
	"pavane/cmd/pavane/internal/stack"
	"pavane/internal/audit"
)

// chaosDeadline is after how long an undecided order of a run is cancelled: some
// faults outlast it, so that this path is taken, too.
const chaosDeadline = "12s"

type chaosOptions struct {
	seed       uint64
	length     time.Duration
	every      time.Duration
	rate       float64
	kinds      []string
	rounds     int
	realKafka  bool
	keep       bool
	json, html string
	plan       bool
	running    bool
	dir        string
}

func chaosCommand() *cobra.Command {
	var o chaosOptions
	c := &cobra.Command{
		Use:   "chaos",
		Short: "Break a fresh stack by a seeded schedule while orders are placed, and judge what is left",
		Long: `Starts a stack of its own in a fresh directory and touches no other one, unless
--running asks for that.
Each service reaches Kafka and Postgres through proxies of its own. Orders are
placed on a constant schedule, over every path of the saga, while faults come and
overlap by a schedule that the seed decides. Then everything is healed, every
order must end with all its effects within 60 s (90 s with --running, where an
order's deadline may be longer), and the audit must be clean.

The run fails when the audit does, when an order does not end, when fewer than
95 % of the faults landed inside a saga, or fewer than 90 % of the orders were
placed. Ctrl-C heals, judges what there is, and stops.

The faults:` + describeKinds(),
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !c.Flags().Changed("seed") {
				o.seed = rand.Uint64() % 1_000_000
			}
			return runChaos(c.Context(), o, c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.Uint64Var(&o.seed, "seed", 0, "decides the schedule; the same seed, length, pace and faults give the same one; without it a random one, which is printed")
	f.DurationVar(&o.length, "for", 5*time.Minute, "how long faults come")
	f.DurationVar(&o.every, "every", 4*time.Second, "time between the beginnings of two faults, on average")
	f.Float64Var(&o.rate, "rate", 8, "orders per second")
	f.StringSliceVar(&o.kinds, "faults", nil, "kinds of faults to deal out; empty: all")
	f.IntVar(&o.rounds, "rounds", 1, "runs, one after the other, each on a fresh stack under the next seed; disk and memory are those of one run")
	f.BoolVar(&o.realKafka, "real-kafka", false, "run on an Apache Kafka in place of the embedded broker; needs Java 17 and Maven")
	f.BoolVar(&o.keep, "keep", false, "keep data and logs of a good run, too; those of a failed one are always kept")
	f.StringVar(&o.json, "json", "", "file for the report as JSON")
	f.StringVar(&o.html, "html", "", "file for the report as one page with the timeline")
	f.BoolVar(&o.plan, "plan", false, "print the schedule and do nothing")
	f.BoolVar(&o.running, "running", false, "break what runs in --dir in place of a fresh stack, with its own data; place no orders of your own meanwhile")
	f.StringVar(&o.dir, "dir", stack.DefaultDir(), "with --running: directory of the running `pavane up`, or deploy/secrets/host for the stack of compose.yaml and compose.chaos.yaml")
	for _, own := range []string{"rounds", "real-kafka", "keep", "plan"} {
		c.MarkFlagsMutuallyExclusive("running", own)
	}
	return c
}

func describeKinds() string {
	var b strings.Builder
	for _, k := range fault.Kinds() {
		fmt.Fprintf(&b, "\n  %-14s %s", k.Name, k.Breaks)
	}
	return b.String()
}

// chosen returns the kinds of faults to deal out.
func (o chaosOptions) chosen() ([]fault.Kind, error) {
	if err := chaos.Check(o.length, o.every, o.rate); err != nil {
		return nil, err
	}
	if o.rounds < 1 {
		return nil, errors.New("chaos: want --rounds from 1 on")
	}
	if len(o.kinds) == 0 {
		return fault.Kinds(), nil
	}
	var kinds []fault.Kind
	for _, name := range o.kinds {
		k, err := fault.Find(name)
		if err == nil {
			err = o.missing(name) // who asks for it by name wants it
		}
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, k)
	}
	return kinds, nil
}

func runChaos(ctx context.Context, o chaosOptions, out io.Writer) error {
	kinds, err := o.chosen()
	if err != nil {
		return err
	}
	if o.plan {
		tell := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
		for _, p := range chaos.Possible(chaos.Plan(o.seed, o.length, o.every, kinds), kinds, stack.Missing, tell) {
			fmt.Fprintf(out, "%7.1f s  %-36s %.1f s\n", p.At.Seconds(), p.Spec, p.For.Seconds())
		}
		return nil
	}
	p := newPrinter(out)
	if o.running {
		return o.onRunning(ctx, out, p)
	}
	for round := range o.rounds {
		if o.rounds > 1 {
			p.say("round %d of %d", round+1, o.rounds)
		}
		if err := o.round(ctx, kinds, out, p); err != nil || ctx.Err() != nil {
			return err
		}
		o.seed++
	}
	return nil
}

// missing says what is missing for a kind, as far as it can be known here.
func (o chaosOptions) missing(kind string) error {
	if o.running {
		return nil // whoever runs it looks
	}
	return stack.Missing(kind)
}

// onRunning has what runs already break itself.
func (o chaosOptions) onRunning(ctx context.Context, out io.Writer, p *printer) error {
	s, err := stack.Load(o.dir)
	if err != nil {
		return err
	}
	defer p.alive("under way")()
	order := control.ChaosOrder{Seed: o.seed, For: o.length, Every: o.every, Rate: o.rate, Kinds: o.kinds}
	rep, err := control.RunChaos(ctx, s.Control, order, func(line string) { p.say("%s", line) })
	if err == nil {
		err = o.write(rep, out)
	}
	switch {
	case err != nil:
		return err
	case !rep.OK:
		p.say("chaos: FAILED under seed %d", rep.Seed)
		return errVerdict
	}
	p.say("chaos: ok under seed %d", rep.Seed)
	return nil
}

// round is one run on a fresh stack, which goes away with it when it was good.
func (o chaosOptions) round(ctx context.Context, kinds []fault.Kind, out io.Writer, p *printer) error {
	s, dir, err := startFresh(ctx, "chaos", upOptions{realKafka: o.realKafka}, stack.Config{
		Breakable: true,
		Env:       []string{"PAVANE_LOG_LEVEL=warn", "PAVANE_ORDER_DEADLINE=" + chaosDeadline}, OnExit: func(stack.Exit) {},
	}, p)
	if err != nil {
		return err
	}
	rep, err := o.judged(ctx, s, kinds, p)
	size := diskUse(dir)
	err = errors.Join(err, stop(s))
	if err == nil {
		err = o.write(rep, out)
	}
	switch {
	case err != nil:
		p.say("data and logs are in %s", dir)
		return err
	case !rep.OK:
		p.say("chaos: FAILED under seed %d; data and logs are in %s", rep.Seed, dir)
		return errVerdict
	}
	p.say("chaos: ok under seed %d; %d MiB on disk", rep.Seed, size>>20)
	if o.keep {
		p.say("data and logs are in %s", dir)
		return nil
	}
	return os.RemoveAll(dir)
}

func (o chaosOptions) judged(ctx context.Context, s *stack.Stack, kinds []fault.Kind, p *printer) (*chaos.Report, error) {
	return chaos.Run(ctx, chaosOn(s, s.State(), chaos.Config{Seed: o.seed, For: o.length, Every: o.every, Rate: o.rate, Kinds: kinds, Progress: p.say}))
}

// chaosOn is the run against what the state describes.
func chaosOn(d fault.Driver, state stack.State, c chaos.Config) chaos.Config {
	c.Driver, c.Gateway = d, state.Client()
	c.Audit = audit.Source{Postgres: state.Postgres, Kafka: state.Kafka, Namespace: state.Namespace, Provider: state.Provider}
	return c
}

// write writes the report in all forms that are wanted.
func (o chaosOptions) write(rep *chaos.Report, out io.Writer) error {
	fmt.Fprintln(out)
	err := rep.Print(out)
	for _, form := range []struct {
		file  string
		write func(io.Writer) error
	}{{o.json, rep.WriteJSON}, {o.html, rep.WriteHTML}} {
		if form.file == "" {
			continue
		}
		f, createErr := os.Create(form.file)
		if createErr != nil {
			err = errors.Join(err, fmt.Errorf("chaos: write the report: %w", createErr))
			continue
		}
		err = errors.Join(err, form.write(f), f.Close())
	}
	return err
}

// diskUse is what all files below a directory take on the disk, as far as they
// can be seen.
func diskUse(dir string) (bytes int64) {
	filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error { //nolint:errcheck // what cannot be read does not count
		if err == nil && info.Mode().IsRegular() {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				bytes += st.Blocks * 512 // stat(2); Kafka's files are longer than what they take
			}
		}
		return nil
	})
	return bytes
}
