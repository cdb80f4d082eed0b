//go:build !linux

package stack

import "syscall"

// childAttr gives a child a group of its own. What a kill -9 of ours leaves
// running is ended by the next start.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
