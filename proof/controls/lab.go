package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	buildTime = 30 * time.Minute // of one control, on a busy machine with a cold cache
	// soon is the time within which a breakage is noticed on a machine that is not
	// busy. One that takes longer is named.
	soon = 2 * time.Minute
	// caughtIn is the time within which it must be noticed, however busy the machine is.
	caughtIn = 10 * time.Minute
	stopTime = 15 * time.Second // a stack that is told to end takes its servers along
)

// result is what became of a run.
type result struct {
	name, promise, breaks, by string

	err    error // why it is not as it should be; nil: caught
	output string
	took   time.Duration // of the run, without building
}

func (r result) outcome() string {
	switch {
	case r.err != nil:
		return "NOT CAUGHT: " + r.err.Error()
	case r.took > soon:
		return r.by + ", but LATE: want " + soon.String() + " on a machine that is not busy"
	}
	return r.by
}

// lab is where breakages are built and run.
type lab struct {
	root string // of the module
	dir  string // for everything that is built
	// sound builds the unbroken binaries, once.
	sound func() (string, error)
}

func newLab(ctx context.Context) (*lab, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOMOD: %w", err)
	}
	l := &lab{root: filepath.Dir(strings.TrimSpace(string(out)))}
	if l.dir, err = os.MkdirTemp("", "pavane-controls-"); err != nil {
		return nil, err
	}
	l.sound = sync.OnceValues(func() (string, error) { return l.buildSound(ctx) })
	return l, os.Chmod(l.dir, 0o755) // as root, Postgres runs as somebody else
}

func (l *lab) close() { _ = os.RemoveAll(l.dir) }

func services() []string {
	return []string{"order-svc", "payment-svc", "inventory-svc", "notification-svc", "gateway-svc"}
}

// runAll runs the controls, some at a time, and then the sound system alone
// under all their faults. It returns the results in the order of the controls.
func (l *lab) runAll(ctx context.Context, controls []control, jobs int, told func(result)) []result {
	results := make([]result, len(controls))
	var (
		work sync.WaitGroup
		mu   sync.Mutex
	)
	slots := make(chan struct{}, max(jobs, 1))
	for i, c := range controls {
		work.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = l.try(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			told(results[i])
		})
	}
	work.Wait()
	if faults, any := allFaults(controls); any && ctx.Err() == nil {
		r := l.trySound(ctx, faults)
		told(r)
		results = append(results, r)
	}
	return results
}

// allFaults joins the faults of the audits; any tells whether there is an audit.
func allFaults(controls []control) (faults string, any bool) {
	var list []string
	for _, c := range controls {
		any = any || len(c.audited) > 0
		for f := range strings.SplitSeq(c.faults, ";") {
			if f != "" && !slices.Contains(list, f) {
				list = append(list, f)
			}
		}
	}
	return strings.Join(list, ";"), any
}

// try builds a breakage, runs what must notice it and judges what that said.
func (l *lab) try(ctx context.Context, c control) result {
	r := result{name: c.name, promise: c.promise, breaks: c.breaks, by: c.caughtBy()}
	dir := filepath.Join(l.dir, c.name)
	run, err := l.prepare(ctx, c, dir)
	if err != nil {
		r.err = err
		return r
	}
	began := time.Now()
	code, output, err := run(ctx)
	r.took, r.output = time.Since(began), output
	switch {
	case err != nil:
		r.err = err
	default:
		r.err = c.judge(code, output)
	}
	return r
}

// runner runs what was built and returns its exit code and what it said.
type runner func(ctx context.Context) (code int, output string, err error)

func (l *lab) prepare(ctx context.Context, c control, dir string) (runner, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	overlay, err := c.overlay(l.root, dir)
	if err != nil {
		return nil, err
	}
	if c.test != "" {
		binary := filepath.Join(dir, "tests")
		args := []string{"test", "-overlay", overlay, "-vet=off", "-ldflags=-s -w", "-c", "-o", binary, "./" + c.pkg}
		return func(ctx context.Context) (int, string, error) {
			cmd := exec.Command(binary, "-test.run", exactly(c.test), "-test.failfast", "-test.v", "-test.timeout", caughtIn.String())
			cmd.Dir = filepath.Join(l.root, c.pkg)
			return execute(ctx, cmd, nil)
		}, l.build(ctx, args...)
	}
	if err := l.buildBroken(ctx, c, overlay, dir); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (int, string, error) { return smoke(ctx, dir, c.faults) }, nil
}

// exactly is the -test.run pattern of one test, and of a subtest after a slash.
func exactly(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + p + "$"
	}
	return strings.Join(parts, "/")
}

func (l *lab) build(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = l.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the breakage does not build: %w\n%s", err, out)
	}
	return nil
}

func (l *lab) buildSound(ctx context.Context) (string, error) {
	dir := filepath.Join(l.dir, "sound")
	args := []string{"build", "-ldflags=-s -w", "-o", dir + string(filepath.Separator), "./cmd/pavane"}
	for _, s := range services() {
		args = append(args, "./"+s)
	}
	return dir, errors.Join(os.Mkdir(dir, 0o755), l.build(ctx, args...))
}

// buildBroken fills dir with all binaries, those of the audited services broken.
func (l *lab) buildBroken(ctx context.Context, c control, overlay, dir string) error {
	sound, err := l.sound()
	if err != nil {
		return err
	}
	args := []string{"build", "-overlay", overlay, "-ldflags=-s -w", "-o", dir + string(filepath.Separator)}
	for _, name := range append(services(), "pavane") {
		if slices.Contains(c.audited, name) {
			args = append(args, "./"+name)
		} else if err := os.Link(filepath.Join(sound, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return l.build(ctx, args...)
}

// trySound runs the unbroken binaries under all faults: what an audit blames on
// a breakage must not come from the faults alone.
func (l *lab) trySound(ctx context.Context, faults string) result {
	r := result{name: "(nothing)", promise: "6", breaks: "Nothing is broken; the faults of all audits happen.", by: "must be clean"}
	dir, err := l.sound()
	if err != nil {
		r.err = err
		return r
	}
	began := time.Now()
	code, output, err := smoke(ctx, dir, faults)
	r.took, r.output, r.err = time.Since(began), output, err
	if err == nil && (code != 0 || !strings.Contains(output, "smoke: ok")) {
		r.err = fmt.Errorf("exit status %d; a sound system must pass", code)
	}
	return r
}

// smoke runs every path of the saga and the audit with the binaries of dir.
func smoke(ctx context.Context, dir, faults string) (code int, output string, err error) {
	args := []string{"up", "--smoke"}
	if kafka := os.Getenv("PAVANE_KAFKA"); kafka != "" {
		args = append(args, "--kafka", kafka)
	}
	// A failed run leaves its data and logs there; they go with the lab.
	return execute(ctx, exec.Command(filepath.Join(dir, "pavane"), args...), []string{"TMPDIR=" + dir, "PAVANE_FAILPOINTS=" + faults})
}

// execute runs a command for at most caughtIn. An error is one of ours; what the
// command came to is its exit code.
func execute(ctx context.Context, cmd *exec.Cmd, env []string) (code int, output string, err error) {
	var out strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &out, append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		return 0, "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err = errors.New("not within " + caughtIn.String())
	timer := time.NewTimer(caughtIn)
	defer timer.Stop()
	select {
	case <-ended:
		return cmd.ProcessState.ExitCode(), out.String(), nil
	case <-timer.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	_ = cmd.Process.Signal(os.Interrupt)
	late := time.AfterFunc(stopTime, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	<-ended
	return 0, out.String(), err
}

// judge tells whether the breakage was noticed, and for the right reason.
func (c *control) judge(code int, output string) error {
	missing := slices.DeleteFunc(slices.Clone(c.says), func(s string) bool { return strings.Contains(output, s) })
	failed := "--- FAIL: " + topOf(c.test) + " "
	switch {
	case c.test != "" && strings.Contains(output, "no tests to run"):
		return fmt.Errorf("there is no test %s in %s", c.test, c.pkg)
	case code == 0:
		return errors.New("the run passed: nothing notices this")
	case strings.Contains(output, "panic: test timed out"):
		return errors.New("the test did not come to an end")
	case c.test != "" && !strings.Contains(output, failed):
		return fmt.Errorf("exit status %d without %q", code, failed)
	case c.test == "" && !strings.Contains(output, "smoke: FAILED"):
		return fmt.Errorf("exit status %d without a verdict", code)
	case len(missing) > 0:
		return fmt.Errorf("it failed, but did not say %q", missing)
	}
	return nil
}

// topOf is a test's name without that of its subtest.
func topOf(test string) string {
	top, _, _ := strings.Cut(test, "/")
	return top
}
