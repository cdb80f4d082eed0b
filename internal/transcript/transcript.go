// Package transcript owns what the processes and loggers of a test say, readable
// while they go on.
package transcript

import (
	"bytes"
	"sync"
)

// Buffer is an [io.Writer] for any number of goroutines. The zero value is empty
// and ready.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write adds p. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String is all that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
