package main

import "syscall"

// deathSignal puts a child into a group of its own, so that Ctrl-C is for us, and
// has the kernel end it when we die.
func deathSignal() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
