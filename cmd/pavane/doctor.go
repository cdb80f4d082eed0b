package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/doctor"
)

func doctorCommand() *cobra.Command {
	var t target
	var port int
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine lacks, what a running system suffers from, and what to do",
		Long: `Looks at what the demo needs on this machine: binaries, Postgres, room on the disk,
leftovers of a demo that was killed, the port, and the programs that not everybody
needs. Where a demo runs, or flags name a system, it looks at that, too: whether
the gateway knows an instance of each service, whether each database has its
migrations and its events find their way out, whether each topic is as it must be,
and what is parked.

It changes nothing, and ends with status 1 when something has to be seen to.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runDoctor(c.Context(), c.OutOrStdout(), t, port) },
	}
	t.flags(c)
	c.Flags().IntVar(&port, "port", 8080, "port that the gateway is to have")
	return c
}

func runDoctor(ctx context.Context, out io.Writer, t target, port int) error {
	bad, err := doctor.Write(out, "this machine", doctor.Machine(ctx, t.dir, port))
	if err != nil {
		return err
	}
	title, found, err := t.examine(ctx)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		more, err := doctor.Write(out, title, found)
		if err != nil {
			return err
		}
		bad += more
	}
	if bad > 0 {
		return errVerdict
	}
	return nil
}
