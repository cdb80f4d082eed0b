package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// newTeller returns what writes lines of progress, each with the time since the
// start, from any goroutine.
func newTeller(w io.Writer) func(format string, args ...any) {
	began := time.Now()
	var one sync.Mutex
	return func(format string, args ...any) {
		one.Lock()
		defer one.Unlock()
		fmt.Fprintf(w, "%5.1f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
}
