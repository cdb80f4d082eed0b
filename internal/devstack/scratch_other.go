//go:build !linux

package devstack

import "os"

// scratch is where files go that are of no use to anybody after this process.
func scratch() string { return os.TempDir() }
