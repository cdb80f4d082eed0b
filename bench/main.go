// Command bench measures the relay and the inbox on a real Kafka and a real
// Postgres, beside what others build for the same end and beside what the
// machine allows, all in one run. README.md in this folder tells how.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"pavane/shared/lifecycle"
)

// errMissed ends the process with status 1 after everything was said.
var errMissed = errors.New("")

func main() {
	ctx, stop := lifecycle.Signals(context.Background())
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		if !errors.Is(err, errMissed) {
			fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		}
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	quick, json, strict bool
	only                string
	rows                int
	bin                 string
	profile             string
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	if len(args) == 1 && args[0] == childArgument {
		return runChild(ctx, os.Stdin)
	}
	o, err := parse(args, progress)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	chosen, err := choose(o.only)
	if err != nil {
		return err
	}
	if has(chosen, "saga") {
		if err := checkTool(o.bin); err != nil {
			return err
		}
	}
	size := sizesOf(o)
	if has(chosen, "scale") {
		size.work *= tenfold
	}
	r, err := newRig(ctx, o, size, newTeller(progress))
	if err != nil {
		return err
	}
	err = r.measure(ctx, chosen)
	// What was measured until a fault or a signal is told all the same.
	told := r.found.write(out, o)
	stopped := r.stop()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(err, told, stopped)
}

func parse(args []string, usage io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(usage)
	f.BoolVar(&o.quick, "quick", false, "fewer rows, shorter slices and no speed goals: a minute, for a first look")
	f.BoolVar(&o.json, "json", false, "print JSON lines in place of the table")
	f.BoolVar(&o.strict, "strict", false, "end with status 1 for a missed speed goal, too")
	f.StringVar(&o.only, "only", "", "some sections, comma-separated: "+strings.Join(sectionNames(), ","))
	f.IntVar(&o.rows, "rows", 0, "rows of a drain; 0: 200000, quick 30000")
	f.StringVar(&o.bin, "bin", "bin", "folder with the built pavane and services, for the saga")
	f.StringVar(&o.profile, "profile", "", "write CPU profiles of the relay's process into this folder")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.rows < 0 || o.rows > 0 && o.rows < 10000 {
		return o, fmt.Errorf("--rows %d: want 10000 at least", o.rows)
	}
	if o.quick && o.strict {
		return o, errors.New("--quick with --strict: a short run says nothing about speed goals; leave one of them out")
	}
	return o, nil
}

// section is one part of the measurement.
type section struct {
	name  string
	run   func(context.Context, *rig) error
	asked bool // runs only when it is asked for by name
}

func sections() []section {
	return []section{
		{name: "drain", run: drains},
		{name: "kills", run: kills},
		{name: "latency", run: latencies},
		{name: "overhead", run: overhead},
		{name: "sustained", run: sustainedLoad},
		{name: "held", run: held},
		{name: "idle", run: idles},
		{name: "inbox", run: inboxes},
		{name: "saga", run: saga},
		{name: "scale", run: scale, asked: true},
	}
}

func sectionNames() []string {
	var names []string
	for _, s := range sections() {
		names = append(names, s.name)
	}
	return names
}

// choose returns the sections whose names stand in only, in their usual order;
// the usual ones when it is empty.
func choose(only string) ([]section, error) {
	if only == "" {
		return slices.DeleteFunc(sections(), func(s section) bool { return s.asked }), nil
	}
	wanted := strings.Split(only, ",")
	for _, name := range wanted {
		if !slices.Contains(sectionNames(), name) {
			return nil, fmt.Errorf("--only: no section %q; there are %s", name, strings.Join(sectionNames(), ", "))
		}
	}
	return slices.DeleteFunc(sections(), func(s section) bool { return !slices.Contains(wanted, s.name) }), nil
}

func has(chosen []section, name string) bool {
	return slices.ContainsFunc(chosen, func(s section) bool { return s.name == name })
}

// measure runs sections one after the other.
func (r *rig) measure(ctx context.Context, chosen []section) error {
	for _, s := range chosen {
		r.section = s.name
		r.say("%s", s.name)
		if err := s.run(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// runChild is the process under test. What it shall do comes as JSON.
func runChild(ctx context.Context, in io.Reader) error {
	var c job
	if err := json.NewDecoder(in).Decode(&c); err != nil {
		return fmt.Errorf("what to do: %w", err)
	}
	stop, err := c.startProfile()
	if err != nil {
		return err
	}
	defer stop()
	if c.Poll > 0 {
		return c.textbook(ctx)
	}
	return c.relay(ctx)
}
