// Command pavane runs the demo, checks that a system keeps its promises, and
// shows what an operator wants to know.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"pavane/shared/lifecycle"
	"pavane/shared/telemetry"
)

// errVerdict ends the process with status 1 after everything was said.
var errVerdict = errors.New("")

func main() {
	ctx, stop := lifecycle.Signals(context.Background())
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		if !errors.Is(err, errVerdict) {
			fmt.Fprintln(os.Stderr, "pavane: "+strings.ReplaceAll(err.Error(), "\n", "\npavane: "))
		}
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:           "pavane",
		Short:         "A choreographed saga over Kafka with a transactional outbox",
		Version:       telemetry.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.AddCommand(upCommand(), auditCommand(), doctorCommand(), sagaCommand(), benchCommand(), outboxCommand(), parkedCommand(), orderCommand(),
		smokeCommand(), chaosCommand(), breakCommand(), healCommand(), breakerCommand(), brokerCommand(), providerCommand(), relayCommand(), tokenCommand())
	return c
}
