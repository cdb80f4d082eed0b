package demo

import "syscall"

// dieWithUs has the kernel send a process a signal when the tests are killed.
func dieWithUs(attr *syscall.SysProcAttr, s syscall.Signal) { attr.Pdeathsig = s }
