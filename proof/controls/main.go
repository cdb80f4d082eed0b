// Command controls breaks the promises on purpose, one rule at a time, and
// fails when a breakage goes unnoticed: a test that cannot see a fault proves
// nothing by passing.
//
//	go run ./internal/teststack -- go run ./proof/controls [-only name,name] [-v]
//
// A breakage is a file in breakages/. No switch for it is in the code: go build
// and go test are given the changed text of the source with -overlay.
//
//	# What is broken, for people.
//	promise 1
//	edit shared/relay/read.go
//	-text that occurs exactly once in the file
//	+text in its place
//	test shared/relay TestName/subtest
//	says words of the assertion that must fail
//
// In place of a test, "audit payment-svc" builds that service broken, runs every
// path of the saga on a whole system and expects the audit to name the fault;
// "faults" are then the failpoints of the services. All these faults together
// must leave a sound system clean, which is run, too.
//
// PAVANE_POSTGRES and PAVANE_KAFKA name servers to be used; without them tests
// and audits bring their own.
package main

import (
	"context"
	"embed"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

//go:embed breakages/*.txt
var breakages embed.FS

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "controls:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	only := flag.String("only", "", "names of controls, separated by commas; empty: all")
	jobs := flag.Int("jobs", 4, "how many controls run at a time")
	verbose := flag.Bool("v", false, "show what each run said")
	flag.Parse()
	controls, err := chosen(*only)
	if err != nil {
		return err
	}
	l, err := newLab(ctx)
	if err != nil {
		return err
	}
	defer l.close()
	began := time.Now()
	results := l.runAll(ctx, controls, *jobs, func(r result) { tell(out, r, *verbose) })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return verdict(out, results, time.Since(began))
}

// chosen returns the controls with the given names.
func chosen(only string) ([]control, error) {
	dir, err := fs.Sub(breakages, "breakages")
	if err != nil {
		return nil, err
	}
	controls, err := load(dir)
	if err != nil || only == "" {
		return controls, err
	}
	var some []control
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(controls, func(c control) bool { return c.name == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("there is no control %q", name)
		}
		some = append(some, controls[i])
	}
	return some, nil
}

// tell writes one line as a result comes, and more where something is wrong.
func tell(out io.Writer, r result, verbose bool) {
	fmt.Fprintf(out, "%-28s %5.1f s  %s\n", r.name, r.took.Seconds(), r.outcome())
	if r.err != nil || verbose {
		fmt.Fprintln(out, indent(r.output))
	}
}

// indent shows the end of what a run said.
func indent(output string) string {
	const most = 60
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return "    | " + strings.Join(lines[max(0, len(lines)-most):], "\n    | ")
}

// verdict writes the table, names what took long, and fails when a breakage was
// not caught.
func verdict(out io.Writer, results []result, took time.Duration) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\ncontrol\tpromise\tbreaks\tcaught by\tseconds")
	missed, late := 0, 0
	for _, r := range results {
		if r.err != nil {
			missed++
		} else if r.took > soon {
			late++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.1f\n", r.name, r.promise, r.breaks, r.outcome(), r.took.Seconds())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d runs did not come to what they should", missed, len(results))
	}
	fmt.Fprintf(out, "\nall %d runs came to what they should, %d of them after more than %s, in %s\n", len(results), late, soon, took.Round(time.Second))
	return nil
}
