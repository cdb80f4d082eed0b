//go:build !linux

package devstack

import "syscall"

// childAttr puts a child into a group of its own. These systems have no death signal: a kill -9 of ours
// leaves the child running until the next start on its directory ends it.
func childAttr(syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
