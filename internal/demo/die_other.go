//go:build !linux

package demo

import "os/exec"

// dieWithUs is for Linux; elsewhere a killed test leaves its demo running.
func dieWithUs(*exec.Cmd) {}
