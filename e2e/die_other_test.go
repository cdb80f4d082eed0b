//go:build !linux

package e2e_test

import "os/exec"

// dieWithUs is for Linux; elsewhere a killed test leaves its demo running.
func dieWithUs(*exec.Cmd) {}
