package stack

import "syscall"

// childAttr gives a child a group of its own, so that Ctrl-C in the terminal is
// for us alone, and has the kernel kill it when we die.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
