package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"pavane/cmd/pavane/internal/smoke"
	"pavane/cmd/pavane/internal/stack"
	"pavane/internal/audit"
)

// smokeSettle is how long effects may be on their way before they count as
// missing.
const smokeSettle = 6 * time.Second

// runSmoke runs every path once on fresh data and audits what is left.
func runSmoke(ctx context.Context, o upOptions, p *printer) (err error) {
	if o.dir, err = os.MkdirTemp("", "pavane-smoke-"); err != nil {
		return fmt.Errorf("smoke: %w", err)
	}
	if err := os.Chmod(o.dir, 0o755); err != nil { // as root, Postgres runs as somebody else
		return fmt.Errorf("smoke: %w", err)
	}
	s, err := start(ctx, o, stack.Config{
		Dir: o.dir, GatewayPort: 0, Env: smokeEnv(), Namespace: cmp.Or(o.namespace, smokeNamespace(o.kafka)), Throwaway: true,
		OnExit: func(e stack.Exit) { p.say("%s ended: %s", e.Service, e.How) },
	}, p)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	ok, err := smokeVerdict(ctx, s, p)
	err = errors.Join(err, stop(s))
	switch {
	case err != nil:
		return err
	case !ok:
		p.say("smoke: FAILED; the services' logs are in %s", filepath.Join(o.dir, "logs"))
		return errVerdict
	}
	p.say("smoke: ok")
	return os.RemoveAll(o.dir)
}

// smokeVerdict runs the paths and the audit.
func smokeVerdict(ctx context.Context, s *stack.Stack, p *printer) (bool, error) {
	quiet := p.alive("running the paths")
	defer func() { quiet() }()
	p.say("%-32s %-44s %-44s %s", "path", "expected", "got", "ms")
	ok := smoke.Run(ctx, s.State(), func(r smoke.Result) {
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
	security, err := kafkaSecurity()
	if err != nil {
		return false, err
	}
	state := s.State()
	v, err := audit.Run(ctx, audit.Source{Postgres: state.Postgres, Kafka: state.Kafka, Security: security, Namespace: state.Namespace, Provider: state.Provider}, smokeSettle)
	if err != nil {
		return false, err
	}
	printVerdict(p, v)
	mails := smoke.Mails(ctx, s)
	p.say("mails: %s", mails)
	return ok && v.Clean && mails.OK(), nil
}

// Write lets other printers write through this one, line by line.
func (p *printer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	return fmt.Fprintf(p.out, "%6.1fs  %s", time.Since(p.begin).Seconds(), b)
}
