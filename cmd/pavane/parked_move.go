package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"pavane/shared/fault"
	"pavane/shared/parked"
	"pavane/shared/postgres"
)

// mover does one action with the keys that were chosen.
type mover struct {
	choice
	action   parked.Action
	who, why string
	dryRun   bool
	forged   bool    // disown in place of discard
	skip     bool    // skip in place of discard
	rate     float64 // keys per second; 0: as fast as it goes

	out               io.Writer
	next              time.Time // when the next key may go, under a rate
	keys, moved, left int
}

func parkedMoveCommand(action parked.Action) *cobra.Command {
	m := mover{action: action}
	c := &cobra.Command{
		Use:   string(action) + " (--key KEY | --cause CAUSE) --why WHY",
		Short: map[parked.Action]string{parked.Redrive: "Try parked keys again, in their order", parked.Discard: "Give up the record that holds a key up, and let the others go"}[action],
		Long: map[parked.Action]string{
			parked.Redrive: `The service applies the records of the chosen keys again, in order; a record that
fails again is parked again. What Kafka had refused is published. Each key is one
transaction, so an interruption leaves none half done, and twice is harmless.`,
			parked.Discard: `Only the record that holds a key up is given up; those behind it are applied. In
the place of one that Kafka refuses goes a record with its number and no effect,
so that nobody meets a gap. What is discarded never has its effect: what the
order needs instead is yours to do.`,
		}[action],
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			m.out = c.OutOrStdout()
			switch {
			case m.forged:
				m.action = parked.Disown
			case m.skip:
				m.action = parked.Skip
			}
			return m.run(c.Context())
		},
	}
	m.flags(c)
	f := c.Flags()
	f.StringVar(&m.key, "key", "", "only this key")
	f.StringVar(&m.why, "why", "", "the reason, for the audit trail; required")
	f.StringVar(&m.who, "who", osUser(), "whose decision it is, for the audit trail")
	f.BoolVar(&m.dryRun, "dry-run", false, "say what would be done with each key, and change nothing")
	if action == parked.Discard {
		f.BoolVar(&m.forged, "forged", false, "delete the records behind a gap themselves, and count nothing as handled")
		f.BoolVar(&m.skip, "skip-missing", false, "count what is missing in a gap as handled, even where more than 1,000 numbers are")
		c.MarkFlagsMutuallyExclusive("forged", "skip-missing")
	}
	f.Float64Var(&m.rate, "rate", 0, "keys per second; 0: as fast as it goes")
	return c
}

func (m *mover) run(ctx context.Context) error {
	switch {
	case m.key == "" && m.cause == "":
		return fmt.Errorf("which keys? give --key, --cause or both; pavane parked list shows what waits")
	case m.why == "" && !m.dryRun:
		return fmt.Errorf("--why is missing: say why, for those who will ask")
	case m.who == "":
		return fmt.Errorf("--who is missing: say whose decision it is")
	case !(m.rate >= 0): // what is no number, too
		return fmt.Errorf("--rate %g: want keys per second from 0 on", m.rate)
	}
	if err := m.check(); err != nil {
		return err
	}
	err := m.each(ctx, m.in)
	if err != nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("stopped after %s: each of them is done whole, the others wait as before", count(m.keys, "key"))
	}
	if err != nil {
		return fmt.Errorf("after %s: %w", count(m.keys, "key"), err)
	}
	m.sum()
	if m.left > 0 && m.keys == 0 {
		return errVerdict
	}
	return nil
}

// in goes through the keys of one service.
func (m *mover) in(ctx context.Context, service string, db *postgres.DB) error {
	for k, err := range parked.Each(ctx, db, m.filter()) {
		if err != nil {
			return err
		}
		if err := m.one(ctx, service, db, k); err != nil {
			return err
		}
	}
	return nil
}

func (m *mover) one(ctx context.Context, service string, db *postgres.DB, k parked.Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	what, err := k.Plan(m.action)
	if fault.ClassOf(err) == fault.ClassInvalid {
		m.left++
		fmt.Fprintf(m.out, "%s: left alone: %v\n", service, err)
		return nil
	}
	if err != nil {
		return err
	}
	if m.dryRun {
		m.keys++
		fmt.Fprintf(m.out, "%s: key %s: would %s\n", service, printable(k.Key), what)
		return nil
	}
	if err := m.pace(ctx); err != nil {
		return err
	}
	// A key that is begun is done: the interruption comes between two.
	n, err := k.Do(context.WithoutCancel(ctx), db, m.action, m.who, m.why)
	if err != nil {
		return err
	}
	m.keys, m.moved = m.keys+1, m.moved+n
	if m.keys == 1 || m.key != "" || m.keys%100 == 0 {
		fmt.Fprintf(m.out, "%s: key %s: %s (%s)\n", service, printable(k.Key), what, count(n, "record"))
	}
	return nil
}

// pace waits until the next key may go.
func (m *mover) pace(ctx context.Context) error {
	if m.rate == 0 {
		return nil
	}
	timer := time.NewTimer(time.Until(m.next))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	m.next = time.Now().Add(time.Duration(float64(time.Second) / m.rate))
	return nil
}

func (m *mover) sum() {
	switch {
	case m.keys == 0 && m.left == 0:
		fmt.Fprintln(m.out, "nothing that was chosen is parked; nothing was changed")
	case m.dryRun:
		fmt.Fprintf(m.out, "dry run: %s of %s, nothing was changed\n", m.action, count(m.keys, "key"))
	default:
		fmt.Fprintf(m.out, "%s of %s, %s; %d left alone\n", m.action, count(m.keys, "key"), count(m.moved, "record"), m.left)
	}
}
