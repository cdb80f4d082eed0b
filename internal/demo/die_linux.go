package demo

import (
	"os/exec"
	"syscall"
)

// dieWithUs has the kernel end the process when the tests are killed.
func dieWithUs(cmd *exec.Cmd) { cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM }
