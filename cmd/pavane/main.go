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

	"pavane/cmd/pavane/internal/client"
	"pavane/cmd/pavane/internal/stack"
	"pavane/shared/broker"
	"pavane/shared/config"
	"pavane/shared/lifecycle"
	"pavane/shared/service"
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

// kafkaSecurity reads how Kafka is spoken to from the variables that the services
// read it from.
func kafkaSecurity() (broker.Security, error) {
	var cfg struct{ Kafka broker.Security }
	err := config.Load(service.Prefix, &cfg)
	return cfg.Kafka, err
}

// target is where a command looks: at the running demo, or at what the flags say.
type target struct {
	dir, gateway, postgres string
	authority              string // of the demo's tokens; empty: none are asked for, or the gateway is another one
	provider               string
	kafka                  []string
	security               broker.Security // of the services' variables
	namespace              string
}

// flags adds the flags of a target to a command.
func (t *target) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&t.dir, "dir", stack.DefaultDir(), "directory of the running `pavane up` to look at")
	f.StringVar(&t.gateway, "gateway", "", "URL of the gateway, in place of the demo's")
	f.StringVar(&t.postgres, "postgres", "", "URL of the Postgres server with a user that may read all databases, in place of the demo's")
	f.StringVar(&t.provider, "provider", "", "URL of the provider simulator, in place of the demo's; with --postgres and --kafka and without this, its ledger is not looked at")
	f.StringSliceVar(&t.kafka, "kafka", nil, "host:port of some brokers, in place of the demo's")
	f.StringVar(&t.namespace, "namespace", "", "what the names of topics begin with")
}

// resolve fills in what no flag gave from the state of the running demo. Without
// one every part that the command needs must come from flags.
func (t *target) resolve(needGateway, needPostgres, needKafka bool) error {
	if needKafka {
		var err error
		if t.security, err = kafkaSecurity(); err != nil {
			return err
		}
	}
	missing := needGateway && t.gateway == "" || needPostgres && t.postgres == "" || needKafka && len(t.kafka) == 0
	if !missing {
		return nil
	}
	s, err := stack.Load(t.dir)
	if err != nil {
		return err
	}
	if t.gateway == "" {
		t.gateway, t.authority = s.Gateway, s.Authority
	}
	if t.provider == "" {
		t.provider = s.Provider
	}
	if t.postgres == "" {
		t.postgres = s.Postgres
	}
	if len(t.kafka) == 0 {
		t.kafka, t.namespace = s.Kafka, s.Namespace
	}
	return nil
}

// client calls the gateway of the target.
func (t *target) client() *client.Client {
	return stack.State{Gateway: t.gateway, Authority: t.authority}.Client()
}
