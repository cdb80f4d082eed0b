package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"pavane/cmd/pavane/internal/stack"
)

// startFresh starts a stack on data of its own for one run, below a directory of
// which the caller disposes.
func startFresh(ctx context.Context, run string, o upOptions, cfg stack.Config, p *printer) (s *stack.Stack, dir string, err error) {
	if dir, err = os.MkdirTemp("", "pavane-"+run+"-"); err != nil {
		return nil, "", fmt.Errorf("%s: %w", run, err)
	}
	if err = os.Chmod(dir, 0o755); err == nil { // as root, Postgres runs as somebody else
		cfg.Dir = dir
		s, err = start(ctx, o, cfg, p)
	}
	if err != nil {
		return nil, "", unstarted(ctx, dir, err, p)
	}
	return s, dir, nil
}

// unstarted is the end of a run whose stack did not start. What is left of it goes,
// unless its logs may say more than the error.
func unstarted(ctx context.Context, dir string, err error, p *printer) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	} else if logs, _ := os.ReadDir(filepath.Join(dir, "logs")); len(logs) > 0 {
		p.say("data and logs are in %s", dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(dir))
}
