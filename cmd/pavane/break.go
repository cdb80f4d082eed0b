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

	"pavane/cmd/pavane/internal/control"
	"pavane/cmd/pavane/internal/fault"
	"pavane/cmd/pavane/internal/stack"
)

func breakCommand() *cobra.Command {
	var dir string
	var length time.Duration
	c := &cobra.Command{
		Use:   "break KIND [SERVICE] [broker|postgres]",
		Short: "Break something in the running demo",
		Long: `Breaks one thing in the demo that runs in --dir, says what one should see, and
with --for heals it after that time. Ctrl-C heals it at once. Without --for it
stays broken until ` + "`pavane heal`" + `. Without a kind it lists them.`,
		Args: cobra.MaximumNArgs(3),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return listKinds(c.OutOrStdout())
			}
			return runBreak(c.Context(), dir, args, length, c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&dir, "dir", stack.DefaultDir(), "directory of the running `pavane up`")
	c.Flags().DurationVar(&length, "for", 0, "how long it stays broken; 0: until `pavane heal`")
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
			return control.Heal(c.Context(), s.Control, func(line string) { fmt.Fprintln(c.OutOrStdout(), line) })
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

func runBreak(ctx context.Context, dir string, args []string, length time.Duration, out io.Writer) error {
	spec := specOf(args)
	k, err := fault.Find(spec.Kind)
	if err != nil {
		return err
	}
	s, err := stack.Load(dir)
	if err != nil {
		return err
	}
	p := newPrinter(out)
	p.say("%s %s", spec, k.Breaks)
	p.say("what one should see: %s", k.Expect)
	if length > 0 && k.Most > 0 {
		p.say("healed after %s; Ctrl-C heals it now", length)
	}
	defer p.alive("broken")()
	err = control.Break(ctx, s.Control, spec, length, func(line string) { p.say("%s", line) })
	switch {
	case ctx.Err() != nil:
		p.say("healed before its time")
		return nil
	case err != nil:
		return err
	case k.Most > 0 && length == 0:
		p.say("broken until `pavane heal`")
	default:
		p.say("done; `pavane audit` tells what is left")
	}
	return nil
}
