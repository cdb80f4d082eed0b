package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pavane/cmd/pavane/internal/control"
	"pavane/cmd/pavane/internal/fault"
)

// pausable is a system that can pause a service, and resumes it if it can.
type pausable struct {
	fault.Driver
	pausing chan struct{} // takes one when it begins to
	paused  chan struct{} // closed: it may end with it
	resume  error
	resumed atomic.Bool
}

func (*pausable) Missing(context.Context, string) error { return nil }

func (d *pausable) Pause(context.Context, string) error {
	d.pausing <- struct{}{}
	<-d.paused
	return nil
}

func (d *pausable) Resume(context.Context, string) error {
	d.resumed.Store(true)
	return d.resume
}

func TestBreak_GivenUp_SaysWhatCameOfIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		length  time.Duration
		resume  error
		say     string
		fails   bool
		resumed bool
	}{
		"for a while":                      {length: time.Hour, say: "healed before its time", resumed: true},
		"for a while, and it stays broken": {length: time.Hour, resume: errors.New("not now"), fails: true, resumed: true},
		"until it is healed":               {say: "stands until `pavane heal`"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &pausable{pausing: make(chan struct{}), paused: make(chan struct{}), resume: c.resume}
			server, err := control.Listen("127.0.0.1:0", "let me in")
			if err != nil {
				t.Fatal(err)
			}
			server.Serve(d, nil)
			defer server.Close(t.Context()) //nolint:errcheck // there is no chaos
			spec := fault.Spec{Kind: "pause", Service: "order-svc"}
			kind, err := fault.Find(spec.Kind)
			if err != nil {
				t.Fatal(err)
			}
			ctx, giveUp := context.WithCancel(t.Context())
			defer giveUp()
			var out bytes.Buffer
			done := make(chan error, 1)
			go func() {
				done <- breakOptions{length: c.length}.cause(ctx, server.Control(), spec, kind, newPrinter(&out))
			}()
			<-d.pausing
			giveUp()
			if c.length > 0 {
				close(d.paused)
			} else {
				defer close(d.paused) // it is still beginning
			}
			err = <-done
			if (err != nil) != c.fails || !strings.Contains(out.String(), c.say) || d.resumed.Load() != c.resumed {
				t.Errorf("%v, resumed %t; it said\n%s", err, d.resumed.Load(), out.String())
			}
		})
	}
}
