//go:build image

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// brokerCommand says that there is none. Images of the tool are built without the
// embedded broker: it is for `pavane up`, which has no use in a container, and a
// twentieth of the binary.
func brokerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "broker", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("broker: this build has no embedded broker; use one of make build, or a real Kafka")
		},
	}
}
