package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/smoke"
	"pavane/cmd/pavane/internal/stack"
	"pavane/internal/audit"
)

// smokeSettle is how long effects may be on their way before they count as
// missing.
const smokeSettle = 15 * time.Second

// runSmoke runs every path once on fresh data and audits what is left.
func runSmoke(ctx context.Context, o upOptions, p *printer) error {
	s, dir, err := startFresh(ctx, "smoke", o, stack.Config{
		Namespace: cmp.Or(o.namespace, smokeNamespace(o.kafka)), Throwaway: true,
		OnExit: func(e stack.Exit) { p.say("%s ended: %s", e.Service, e.How) },
	}, p)
	if err != nil {
		return err
	}
	t := target{dir: dir}
	ok := false
	if err = t.resolve(true, true, true); err == nil {
		ok, err = t.smokeVerdict(ctx, p)
	}
	if err == nil {
		mails := smoke.Mails(ctx, s)
		p.say("mails: %s", mails)
		ok = ok && mails.OK()
	}
	err = errors.Join(err, stop(s))
	switch {
	case err != nil:
		p.say("data and logs are in %s", dir)
		return err
	case !ok:
		p.say("smoke: FAILED; the services' logs are in %s", filepath.Join(dir, "logs"))
		return errVerdict
	}
	p.say("smoke: ok")
	return os.RemoveAll(dir)
}

// smokeCommand runs the paths on a system that runs already.
func smokeCommand() *cobra.Command {
	var t target
	c := &cobra.Command{
		Use:   "smoke",
		Short: "Run every path of the saga once on a running system, and audit",
		Long: `Places orders through the gateway for every path of the saga, holds services back
where a path needs one to be late (by a lock in their databases), moves the deadline
of an order to now where a path needs that, and audits.

The system must have been seeded for the demo, and take orders of anybody (or be a
demo that runs with --auth). ` + "`pavane up --smoke`" + ` does the same on fresh data. Exits
with status 1 when a path came to another end, or the audit found a difference.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := t.resolve(true, true, true); err != nil {
				return err
			}
			ok, err := t.smokeVerdict(c.Context(), newPrinter(c.OutOrStdout()))
			if err != nil {
				return err
			}
			if !ok {
				return errVerdict
			}
			return nil
		},
	}
	t.flags(c)
	return c
}

// smokeVerdict runs the paths and the audit.
func (t *target) smokeVerdict(ctx context.Context, p *printer) (bool, error) {
	quiet := p.alive("running the paths")
	defer func() { quiet() }()
	p.say("%-32s %-44s %-44s %s", "path", "expected", "got", "ms")
	system := smoke.System{Gateway: t.client(), Databases: map[string]string{}}
	for _, place := range t.places() {
		system.Databases[place.name] = place.url
	}
	ok := smoke.Run(ctx, system, func(r smoke.Result) {
		mark := ""
		if !r.OK {
			mark = "  <- WRONG"
		}
		p.say("%-32s %-44s %-44s %d%s", r.Path, r.Expected, r.Got, r.Took.Milliseconds(), mark)
	})
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	quiet()
	quiet = p.alive("auditing")
	v, err := audit.Run(ctx, t.source(), smokeSettle)
	if err != nil {
		return false, err
	}
	printVerdict(p, v)
	return ok && v.Clean, nil
}

// Write lets other printers write through this one, line by line.
func (p *printer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	return fmt.Fprintf(p.out, "%6.1fs  %s", time.Since(p.begin).Seconds(), b)
}
