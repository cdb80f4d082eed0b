// Package leaks owns the look at goroutines that a test has left. goleak gives
// them less than half a second to end, which a busy machine may need for what is
// on its way.
package leaks

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines may take to end.
const patience = time.Minute

// Main returns the exit status of a run of tests: that of run, or 1 when all
// passed and goroutines are left. It is for TestMain.
func Main(run func() int) int {
	code := run()
	if code != 0 {
		return code
	}
	if err := find(patience); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// None fails the test when goroutines are left that the options do not name.
func None(t testing.TB, options ...goleak.Option) {
	t.Helper()
	if err := find(patience, options...); err != nil {
		t.Error(err)
	}
}

func find(patience time.Duration, options ...goleak.Option) (err error) {
	for begin := time.Now(); time.Since(begin) < patience; {
		if err = goleak.Find(options...); err == nil {
			return nil
		}
	}
	return err
}
