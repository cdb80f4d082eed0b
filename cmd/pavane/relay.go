package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/stack"
	"pavane/shared/config"
	"pavane/shared/contract"
	"pavane/shared/service"
	"pavane/shared/telemetry"
)

func relayCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "relay SERVICE",
		Short: "Publish the outbox of one service's database, as a process of its own",
		Long: `Runs the relay of SERVICE (` + strings.Join(withDatabase(), ", ") + `) alone. It reads the variables
of the service: PAVANE_DATABASE, PAVANE_BROKERS, PAVANE_KAFKA_…, PAVANE_PARTITIONS,
PAVANE_NAMESPACE, PAVANE_HTTP_ADDR (health and metrics) and so on, and takes the
service's role and principal. Set PAVANE_RELAY=false in the service to leave the
work to it alone; relays beside each other do no harm.`,
		Args: cobra.ExactArgs(1), ValidArgs: withDatabase(),
		RunE: func(c *cobra.Command, args []string) error {
			if err := cobra.OnlyValidArgs(c, args); err != nil {
				return fmt.Errorf("no service with an outbox: %q; want one of %s", args[0], strings.Join(withDatabase(), ", "))
			}
			var cfg service.Config
			if err := config.Load(service.Prefix, &cfg); err != nil {
				return err
			}
			return service.RunRelay(c.Context(), cfg, service.Spec{Name: args[0], Version: telemetry.Version(), Topics: contract.Topics()})
		},
	}
}

// withDatabase are the services that have an outbox.
func withDatabase() []string {
	var names []string
	for _, d := range stack.Databases() {
		names = append(names, d.Service)
	}
	return names
}
