//go:build !linux

package main

import "syscall"

// deathSignal puts a child into a group of its own, so that Ctrl-C is for us.
func deathSignal() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
