package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/chaos"
	"pavane/cmd/pavane/internal/client"
	"pavane/cmd/pavane/internal/control"
	"pavane/cmd/pavane/internal/fault"
	"pavane/cmd/pavane/internal/stack"
)

const (
	shopBefore = time.Second     // orders run before something breaks
	shopAfter  = 2 * time.Second // and after it is healed
)

type breakOptions struct {
	dir    string
	length time.Duration
	rate   float64
}

func breakCommand() *cobra.Command {
	var o breakOptions
	c := &cobra.Command{
		Use:   "break KIND [SERVICE] [broker|postgres]",
		Short: "Break something in the running demo, or in the stack of compose.yaml and compose.chaos.yaml",
		Long: `Breaks one thing in what runs in --dir (for the stack of compose that is
deploy/secrets/host), says what one should see, and with --for heals it after that
time, or at once at Ctrl-C. Without --for it stays broken until
` + "`pavane heal`" + `. Without a kind it lists them.`,
		Args: cobra.MaximumNArgs(3),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return listKinds(c.OutOrStdout())
			}
			if err := checkRate("--orders", o.rate); err != nil {
				return err
			}
			return runBreak(c.Context(), o, specOf(args), c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&o.dir, "dir", stack.DefaultDir(), "directory of the running `pavane up`")
	c.Flags().DurationVar(&o.length, "for", 0, "how long it stays broken; 0: until `pavane heal`")
	c.Flags().Float64Var(&o.rate, "orders", 0, "orders per second to place meanwhile, a moment before and after; 0: none")
	return c
}

func healCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "heal",
		Short: "Undo all that `pavane break` has left broken in the running demo",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := stack.Load(dir)
			if err != nil {
				return err
			}
			return control.Heal(c.Context(), s.Control, "", func(line string) { fmt.Fprintln(c.OutOrStdout(), line) })
		},
	}
	c.Flags().StringVar(&dir, "dir", stack.DefaultDir(), "directory of the running `pavane up`")
	return c
}

func listKinds(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, k := range fault.Kinds() {
		words := []string{k.Name}
		if len(k.Services) > 0 {
			words = append(words, "SERVICE")
		}
		if len(k.Servers) > 0 {
			words = append(words, strings.Join(k.Servers, "|"))
		}
		fmt.Fprintf(w, "%s\t%s\n", strings.Join(words, " "), k.Breaks)
	}
	return w.Flush()
}

// specOf reads the words of a command line.
func specOf(args []string) fault.Spec {
	s := fault.Spec{Kind: args[0], Seed: rand.Uint64()}
	for _, word := range args[1:] {
		if slices.Contains([]string{stack.Broker, stack.Postgres}, word) {
			s.Server = word
		} else {
			s.Service = word
		}
	}
	return s
}

// runBreak breaks one thing, and says whether the orders that were placed
// meanwhile have all ended.
func runBreak(ctx context.Context, o breakOptions, spec fault.Spec, out io.Writer) error {
	k, err := fault.Find(spec.Kind)
	if err != nil {
		return err
	}
	s, err := stack.Load(o.dir)
	if err != nil {
		return err
	}
	p := newPrinter(out)
	p.say("%s: %s", spec, k.Breaks)
	p.say("what one should see: %s", k.Expect)
	count := o.shop(ctx, s.Client())
	err = o.cause(ctx, s.Control, spec, k, p)
	quiet := p.alive("waiting for the last orders to end")
	t := count()
	quiet()
	if o.rate > 0 {
		p.say("orders: %s", t)
	}
	switch {
	case err != nil:
		return err
	case t.Open > 0 || t.Placed < t.Due:
		return errVerdict
	}
	return nil
}

// shop has orders placed, from a moment before the fault until a moment after it.
func (o breakOptions) shop(ctx context.Context, gateway *client.Client) (count func() chaos.Tally) {
	if o.rate <= 0 {
		return func() chaos.Tally { return chaos.Tally{} }
	}
	stop := chaos.Shop(ctx, gateway, o.rate)
	wait(ctx, shopBefore)
	return func() chaos.Tally {
		wait(ctx, shopAfter)
		return stop(chaos.ShopLimit)
	}
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// cause has the demo break it, and tells what comes of it.
func (o breakOptions) cause(ctx context.Context, c stack.Control, spec fault.Spec, k fault.Kind, p *printer) error {
	if o.length > 0 && k.Most > 0 {
		p.say("healed after %s; Ctrl-C heals it now", o.length)
	}
	defer p.alive("broken")()
	err := control.Break(ctx, c, spec, o.length, func(line string) { p.say("%s", line) })
	switch {
	case err != nil && ctx.Err() != nil:
		return o.giveUp(ctx, c, spec, k, p)
	case err != nil:
		return err
	case k.Most > 0 && o.length == 0:
		p.say("broken until `pavane heal`")
	case k.Most > 0:
		p.say("healed")
	}
	return nil
}

// giveUp has what was meant to be healed healed now.
func (o breakOptions) giveUp(ctx context.Context, c stack.Control, spec fault.Spec, k fault.Kind, p *printer) error {
	switch {
	case k.Most == 0:
		p.say("it goes on without you")
	case o.length == 0:
		p.say("it stands until `pavane heal`")
	default:
		if err := control.Heal(context.WithoutCancel(ctx), c, spec.String(), func(string) {}); err != nil {
			return err
		}
		p.say("healed before its time")
	}
	return nil
}
