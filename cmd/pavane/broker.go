//go:build !image

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"pavane/internal/devstack"
)

// brokerCommand runs the embedded broker as a process of its own. `pavane up`
// starts it, so that it can be killed as a broker is.
func brokerCommand() *cobra.Command {
	var cfg devstack.BrokerConfig
	c := &cobra.Command{
		Use: "broker", Short: "Run the embedded broker that `pavane up` uses", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			want := cfg.Port
			b, err := devstack.StartBroker(cfg)
			if err != nil {
				return err
			}
			defer b.Close()
			if got := fmt.Sprintf("127.0.0.1:%d", want); want != 0 && b.Addr() != got {
				return fmt.Errorf("broker: port %d is taken", want)
			}
			fmt.Fprintf(c.OutOrStdout(), "broker at %s\n", b.Addr())
			<-c.Context().Done()
			return nil
		},
	}
	c.Flags().StringVar(&cfg.Dir, "dir", "", "where records are kept; empty: in memory")
	c.Flags().IntVar(&cfg.Port, "port", 0, "port on the loopback; 0: any")
	return c
}
