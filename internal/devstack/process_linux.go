package devstack

import "syscall"

// childAttr puts a child into a group of its own and asks the kernel to signal it when we die. Go sets the
// death signal after it has changed the credentials, so a drop to another user does not clear it.
func childAttr(onDeath syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: onDeath}
}
