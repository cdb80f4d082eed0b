package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/compose"
	"pavane/cmd/pavane/internal/control"
	"pavane/cmd/pavane/internal/stack"
)

// breakerHealTime is how long the breaker may take at its end to heal what stands.
const breakerHealTime = 20 * time.Second

type breakerOptions struct {
	compose.Config
	dir, listen string
}

func breakerCommand() *cobra.Command {
	var o breakerOptions
	c := &cobra.Command{
		Use:   "breaker",
		Short: "Break the stack of compose.yaml when told to, from a container of it",
		Long: `Runs in the container that compose.chaos.yaml adds. It holds the proxies through
which the services reach Kafka and Postgres, kills, pauses, stops and starts the
other containers by the Docker Engine's socket, and takes the orders of pavane
break, pavane heal, pavane chaos --running and the page. At its end it heals what
it has broken.

Who holds the socket of Docker is root on this machine: never run it in production.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runBreaker(c.Context(), o, c.OutOrStdout()) },
	}
	f := c.Flags()
	f.StringVar(&o.dir, "dir", stack.DefaultDir(), "directory of the state.json that says where the servers are and holds the token of those who may give orders")
	f.StringVar(&o.listen, "listen", "127.0.0.1:7070", "host:port to take orders on")
	f.StringVar(&o.Socket, "socket", "/var/run/docker.sock", "socket of the Docker Engine")
	f.StringVar(&o.Host, "host", "chaos", "name by which the services reach the proxies")
	f.StringToIntVar(&o.Kafka, "kafka", nil, "SERVICE=PORT,…: where the proxy between a service and Kafka listens")
	f.StringToIntVar(&o.Store, "postgres", nil, "SERVICE=PORT,…: where the proxy between a service and Postgres listens")
	return c
}

func runBreaker(ctx context.Context, o breakerOptions, out io.Writer) (err error) {
	if o.State, err = stack.Load(o.dir); err != nil {
		return err
	}
	if o.State.Control.Token == "" {
		return fmt.Errorf("the state file in %s holds no token for orders: run deploy/secrets.sh again", o.dir)
	}
	ctl, err := control.Listen(o.listen, o.State.Control.Token)
	if err != nil {
		return err
	}
	defer ctl.Close(ctx) //nolint:errcheck // its end below says what is left
	s, err := compose.Open(ctx, o.Config)
	if err != nil {
		return err
	}
	defer s.Close()
	say := newPrinter(out).say
	ctl.Serve(s, chaosIn(s, o.State, say))
	say("breaks the project %s when told to", s.Project()) // the page's address would show the token
	<-ctx.Done()
	healing, cancel := context.WithTimeout(context.WithoutCancel(ctx), breakerHealTime)
	defer cancel()
	if err := errors.Join(ctl.Close(healing), ctl.Heal(healing)); err != nil {
		return errors.Join(errors.New("the end of the breaker leaves something broken"), err)
	}
	return nil
}
