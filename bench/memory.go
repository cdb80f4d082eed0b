package main

import (
	"errors"
	"fmt"
	"os"
)

// memory is free memory that the host has given and does not take back.
//
// A virtual machine gets memory when it first touches it, here at 5 µs a page. A
// record takes two tenths of a page of the log, so that costs as much as all that the
// broker does for it. A host can also take back what its guest leaves free, in pieces
// of 2 MB and more. So add writes a file and then frees it but for a page of each
// megabyte: what is left of the rest is too small to be taken, and the kernel gives it
// out before larger pieces.
type memory struct {
	files []*os.File // without a name; each holds a page of each megabyte
}

const megabyte = 1 << 20

func (m *memory) add(size int64) error {
	f, err := os.CreateTemp("", "bench-*")
	if err != nil {
		return err
	}
	m.files = append(m.files, f)
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	block := make([]byte, megabyte)
	for range size / megabyte {
		if _, err := f.Write(block); err != nil {
			return fmt.Errorf("memory for the servers: %w", err)
		}
	}
	if err := f.Sync(); err != nil { // what is dirty is not freed
		return err
	}
	return thin(f, size)
}

func (m *memory) close() (err error) {
	for _, f := range m.files {
		err = errors.Join(err, f.Close())
	}
	m.files = nil
	return err
}
