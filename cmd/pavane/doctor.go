package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/doctor"
	"pavane/cmd/pavane/internal/stack"
)

func doctorCommand() *cobra.Command {
	var t target
	var port int
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine lacks, what a running system suffers from, and what to do",
		Long: `Looks at what the demo needs on this machine: binaries, Postgres, room on the disk,
leftovers of a demo that was killed, the port, and the programs that not everybody
needs; and where a demo runs, at that, too: whether the gateway knows an instance of
each service, whether each database has its migrations and its events find their way
out, whether each topic is as it must be, what is parked, and which sagas stand still.
Where flags name a system, or --dir tells of one in containers, it looks at that and
not at this machine.

It changes nothing, and ends with status 1 when something has to be seen to.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runDoctor(c.Context(), c.OutOrStdout(), t, port) },
	}
	t.flags(c)
	c.Flags().IntVar(&port, "port", 8080, "port that the gateway is to have")
	return c
}

func runDoctor(ctx context.Context, out io.Writer, t target, port int) error {
	all, err := t.diagnose(ctx, port)
	if err != nil {
		return err
	}
	bad := 0
	for _, d := range all {
		n, err := doctor.Write(out, d.of, d.found)
		if err != nil {
			return err
		}
		bad += n
	}
	if bad > 0 {
		return errVerdict
	}
	return nil
}

// diagnosis is what was found, and of what.
type diagnosis struct {
	of    string
	found []doctor.Finding
}

// diagnose looks at the system that flags name, else at this machine and the demo
// that runs on it, if one does.
func (t *target) diagnose(ctx context.Context, port int) ([]diagnosis, error) {
	if err := t.readDatabases(); err != nil {
		return nil, err
	}
	switch {
	case t.named():
		err := t.resolve(t.gateway != "", t.databasesKnown(), len(t.kafka) > 0)
		return []diagnosis{{"the system that the flags name", t.examine(ctx)}}, err
	case stack.Described(t.dir):
		err := t.resolve(true, true, true)
		return []diagnosis{{"the stack that " + t.dir + " tells of", t.examine(ctx)}}, err
	}
	machine := diagnosis{"this machine", doctor.Machine(ctx, t.dir, port)}
	running, _, err := stack.Left(t.dir)
	if err != nil || !running { // the look at the machine has named the error
		return []diagnosis{machine}, nil //nolint:nilerr // as said
	}
	err = t.resolve(true, true, true)
	return []diagnosis{machine, {"the demo in " + t.dir, t.examine(ctx)}}, err
}
