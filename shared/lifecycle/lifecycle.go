// Package lifecycle owns the order in which the parts of a process start and
// stop, and what becomes of their errors. A process is a list of parts: each
// starts when those before it have started, and stops before them.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// StopWithin is the time all parts together have to stop, from the moment the
// first is asked to. What has not stopped by then is left to the end of the
// process: everything durable must be safe without it.
const StopWithin = 10 * time.Second

// lastGrace is how long parts whose context was cut at the deadline may take to
// notice it.
const lastGrace = 500 * time.Millisecond

// Part is one thing a process does, from its start to its end. Every function
// may be nil.
type Part struct {
	// Name stands in log lines and errors.
	Name string

	// Start makes the part ready and returns: it listens, joins, connects. The
	// next part starts after it. An error stops what has started so far.
	Start func(ctx context.Context) error

	// Run is the part's work. It returns nil when the work is done or when its
	// context ends; any other error stops the process.
	Run func(ctx context.Context) error

	// Stop ends the part gracefully. Its context ends when the time for stopping
	// is over. After it Run's context ends. Without a Stop, Run's context ends
	// at once.
	Stop func(ctx context.Context) error
}

// Run starts the parts in their order and keeps them running until ctx ends, one
// of them fails, or the Run functions of all have returned. Then it stops them in
// reverse order, within StopWithin, and returns the first error of any of them;
// nil when there was none. A panic in a part is an error, and its stack is logged.
// The end of ctx is the ordinary way to stop and no error.
func Run(ctx context.Context, logger *slog.Logger, parts ...Part) error {
	g := &group{logger: logger, ended: make(chan ending, len(parts))}
	for _, p := range parts {
		if err := g.start(ctx, p); err != nil {
			g.fail(err)
			break
		}
		if ctx.Err() != nil {
			break
		}
	}
	if g.first == nil {
		g.wait(ctx)
	}
	g.stop(ctx)
	return g.first
}

// group holds the parts that have started. Only the goroutine of Run uses it.
type group struct {
	logger  *slog.Logger
	started []*running
	ended   chan ending // one for each Run function, never blocks
	first   error
}

type running struct {
	Part
	cancel context.CancelFunc
	alive  bool // its Run has not returned
}

// ending is what became of the Run function of one part.
type ending struct {
	part *running
	err  error
}

// start runs p.Start and sets p.Run going.
func (g *group) start(ctx context.Context, p Part) error {
	if err := g.call(ctx, p.Name, "start", p.Start); err != nil {
		return unlessEnded(ctx, err) // a start that was called off has nothing to stop
	}
	// Parts end one after the other, so the end of ctx must not reach them.
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{Part: p, cancel: cancel}
	g.started = append(g.started, r)
	if p.Run == nil {
		return nil
	}
	r.alive = true
	go func() { g.ended <- ending{part: r, err: unlessEnded(own, g.call(own, p.Name, "run", p.Run))} }()
	return nil
}

// wait returns when it is time to stop.
func (g *group) wait(ctx context.Context) {
	if !g.works() && len(g.started) > 0 { // they only start and stop
		<-ctx.Done()
		return
	}
	for g.works() && g.first == nil {
		select {
		case <-ctx.Done():
			g.logger.InfoContext(ctx, "stopping", "cause", context.Cause(ctx).Error())
			return
		case e := <-g.ended:
			g.note(e)
		}
	}
}

// works says whether a Run function is still going.
func (g *group) works() bool {
	for _, r := range g.started {
		if r.alive {
			return true
		}
	}
	return false
}

// stop ends the started parts, the last one first.
func (g *group) stop(ctx context.Context) {
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), StopWithin)
	defer cancel()
	for i := len(g.started) - 1; i >= 0; i-- {
		r := g.started[i]
		if r.Stop != nil {
			g.stopGracefully(deadline, r)
		}
		r.cancel()
		g.waitFor(deadline.Done(), r)
	}
	g.abandon()
}

// stopGracefully calls r.Stop, but waits no longer for it than the deadline.
func (g *group) stopGracefully(deadline context.Context, r *running) {
	done := make(chan error, 1)
	go func() { done <- g.call(deadline, r.Name, "stop", r.Stop) }()
	select {
	case err := <-done:
		g.fail(err)
	case <-deadline.Done():
		select {
		case err := <-done:
			g.fail(err)
		case <-time.After(lastGrace):
			g.fail(fmt.Errorf("lifecycle: %s: stop did not return within %s", r.Name, StopWithin))
		}
	}
}

// waitFor takes in endings until r has ended or until is closed.
func (g *group) waitFor(until <-chan struct{}, r *running) {
	for r.alive {
		select {
		case e := <-g.ended:
			g.note(e)
		case <-until:
			return
		}
	}
}

// abandon gives the parts that missed the deadline a last moment and names those
// that do not use it.
func (g *group) abandon() {
	if !g.works() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastGrace)
	defer cancel()
	for _, r := range g.started {
		g.waitFor(ctx.Done(), r)
		if r.alive {
			g.fail(fmt.Errorf("lifecycle: %s did not stop within %s: it does not obey its context", r.Name, StopWithin))
		}
	}
}

func (g *group) note(e ending) {
	e.part.alive = false
	g.fail(e.err)
}

// fail keeps the first error and logs the others, which nobody would see else.
func (g *group) fail(err error) {
	switch {
	case err == nil:
	case g.first == nil:
		g.first = err
	default:
		g.logger.Error("another part failed while stopping", "error", err)
	}
}

// call runs one function of a part and turns a panic into an error.
func (g *group) call(ctx context.Context, part, verb string, f func(context.Context) error) (err error) {
	if f == nil {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			g.logger.ErrorContext(ctx, "part panicked", "part", part, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("lifecycle: %s: %s panicked: %v", part, verb, p)
		}
	}()
	if err := f(ctx); err != nil {
		return fmt.Errorf("lifecycle: %s: %s: %w", part, verb, err)
	}
	return nil
}

// unlessEnded drops an error that only says that ctx has ended.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
