//go:build !linux

package main

import "os"

// thin frees a file.
func thin(f *os.File, _ int64) error { return f.Truncate(0) }
