package pgtest

import (
	"context"
	"fmt"
	"testing"
)

// ForExample returns what stands in for the *testing.T that an example does not
// have, so that examples can take schemas and brokers like tests. End ends it:
// it cleans up, last taken first. A failure panics, which fails the example.
func ForExample() (t testing.TB, end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	e := &exampleT{ctx: ctx}
	return e, func() {
		cancel()
		for i := len(e.cleanups) - 1; i >= 0; i-- {
			e.cleanups[i]()
		}
	}
}

// exampleT has the methods that helpers of tests call. The embedded interface is
// nil: any other one panics.
type exampleT struct {
	testing.TB
	ctx      context.Context //nolint:containedctx // testing.TB hands it out the same way
	cleanups []func()
}

func (e *exampleT) Helper() {}

func (e *exampleT) Name() string { return "Example" }

func (e *exampleT) Context() context.Context { return e.ctx }

func (e *exampleT) Cleanup(f func()) { e.cleanups = append(e.cleanups, f) }

func (e *exampleT) Log(...any) {}

func (e *exampleT) Logf(string, ...any) {}

func (e *exampleT) Errorf(format string, args ...any) { e.Fatalf(format, args...) }

func (e *exampleT) Error(args ...any) { e.Fatal(args...) }

func (e *exampleT) Fatalf(format string, args ...any) { e.Fatal(fmt.Sprintf(format, args...)) }

func (e *exampleT) Fatal(args ...any) {
	panic(fmt.Sprint(args...)) // an example has no other way to fail
}
