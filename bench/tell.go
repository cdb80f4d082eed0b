package main

import (
	"fmt"
	"io"
	"time"
)

// newTeller returns what writes lines of progress, each with the time since the
// start.
func newTeller(w io.Writer) func(format string, args ...any) {
	began := time.Now()
	return func(format string, args ...any) {
		fmt.Fprintf(w, "%5.1f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
}
