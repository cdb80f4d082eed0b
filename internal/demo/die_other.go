//go:build !linux

package demo

import "syscall"

// dieWithUs is for Linux; elsewhere a killed test leaves its processes running.
func dieWithUs(*syscall.SysProcAttr, syscall.Signal) {}
