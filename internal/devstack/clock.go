package devstack

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// ErrNoFaketime means that this machine has no libfaketime.
var ErrNoFaketime = errors.New("libfaketime is not on this machine; install the package faketime (Debian, Ubuntu) or libfaketime (Fedora, Arch, Alpine)")

const (
	// clockNear is how far the server's clock may be from where it was set to.
	clockNear = time.Minute
	clockPoll = 50 * time.Millisecond
)

// Faketime returns the library that shows a program another time, when it is
// loaded before the C library. Programs that ask the kernel themselves, as those
// in Go do, are not reached by it.
func Faketime() (path string, err error) {
	for _, pattern := range []string{
		"/usr/lib/*/faketime/libfaketime.so.1", // Debian, Ubuntu
		"/usr/lib64/faketime/libfaketime.so.1", // Fedora
		"/usr/lib/faketime/libfaketime.so.1",   // Arch, Alpine
	} {
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			return found[0], nil
		}
	}
	return "", ErrNoFaketime
}

func (p *Postgres) clockFile() string { return filepath.Join(p.dir.path, "clock") }

// fakeClock prepares the file that moves the server's clock, at the real time.
// Without the library the clock cannot be moved and all else is as usual.
func (p *Postgres) fakeClock() error {
	if !p.cfg.MovableClock {
		return nil
	}
	library, err := Faketime()
	if errors.Is(err, ErrNoFaketime) {
		return nil
	}
	p.faketime = library
	return p.writeClock(0)
}

// clockEnv has the server look at the file once a second; its timers, which count
// from an arbitrary moment, go on as they are.
func (p *Postgres) clockEnv() []string {
	if p.faketime == "" {
		return nil
	}
	return []string{
		"LD_PRELOAD=" + p.faketime, "FAKETIME_TIMESTAMP_FILE=" + p.clockFile(),
		"FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1",
	}
}

// writeClock replaces the file at once, so that nobody reads half of it.
func (p *Postgres) writeClock(by time.Duration) error {
	fresh := p.clockFile() + ".new"
	if err := os.WriteFile(fresh, fmt.Appendf(nil, "%+d\n", int64(by.Seconds())), 0o644); err != nil {
		return fmt.Errorf("move the clock: %w", err)
	}
	if err := errors.Join(p.as.own(fresh), os.Rename(fresh, p.clockFile())); err != nil {
		return fmt.Errorf("move the clock: %w", err)
	}
	return nil
}

// MoveClock has the server's clock jump, for all its sessions, to so much after
// the machine's; below 0 it is before, and 0 puts it right. It returns when the server
// answers with the new time. The clock stays there through restarts of the server.
func (p *Postgres) MoveClock(ctx context.Context, by time.Duration) error {
	if p.faketime == "" {
		_, err := Faketime()
		return errors.Join(errors.New("this Postgres was started with a clock that cannot be moved: start it again where libfaketime is"), err)
	}
	if err := p.writeClock(by); err != nil {
		return err
	}
	return AwaitClock(ctx, p.URL(superuser), by)
}

// AwaitClock returns when the server at a URL answers with a time that is so much
// after the machine's.
func AwaitClock(ctx context.Context, server string, by time.Duration) error {
	db, err := sql.Open("postgres", server)
	if err != nil {
		return fmt.Errorf("move the clock: %w", err)
	}
	defer db.Close()
	tick := time.NewTicker(clockPoll)
	defer tick.Stop()
	for {
		var now time.Time
		err := db.QueryRowContext(ctx, `select clock_timestamp()`).Scan(&now)
		if off := time.Until(now) - by; err == nil && off.Abs() < clockNear {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("move the clock: the server does not follow (%w): %w", err, ctx.Err())
		}
	}
}
