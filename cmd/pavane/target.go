package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/client"
	"pavane/cmd/pavane/internal/stack"
	"pavane/shared/broker"
	"pavane/shared/config"
	"pavane/shared/service"
)

// target is where a command looks: at the running demo, or at what the flags say.
type target struct {
	dir, gateway, postgres string
	elsewhere              []string          // SERVICE=URL of databases that are not on that Postgres
	databases              map[string]string // the same by service
	authority              string            // of the demo's tokens; empty: none are asked for, or the gateway is another one
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
	f.StringArrayVar(&t.elsewhere, "database", nil, "`SERVICE=URL` of a database on a server of its own, such as order-svc=postgres://…; once for each")
	f.StringVar(&t.provider, "provider", "", "URL of the provider simulator, in place of the demo's; with --postgres and --kafka and without this, its ledger is not looked at")
	f.StringSliceVar(&t.kafka, "kafka", nil, "host:port of some brokers, in place of the demo's")
	f.StringVar(&t.namespace, "namespace", "", "what the names of topics begin with")
}

// resolve fills in what no flag gave from the state of the running demo. Without
// one every part that the command needs must come from flags.
func (t *target) resolve(needGateway, needPostgres, needKafka bool) error {
	if err := t.readDatabases(); err != nil {
		return err
	}
	if needKafka {
		var err error
		if t.security, err = kafkaSecurity(); err != nil {
			return err
		}
	}
	missing := needGateway && t.gateway == "" || needPostgres && !t.databasesKnown() || needKafka && len(t.kafka) == 0
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

// readDatabases makes a map of what --database has said. That is not the flag's own
// affair: its errors show the value, which may hold a password.
func (t *target) readDatabases() error {
	t.databases = map[string]string{}
	for _, text := range t.elsewhere {
		service, url, _ := strings.Cut(text, "=")
		switch known := serviceNames(); {
		case !slices.Contains(known, service):
			return fmt.Errorf("--database: service %q: choose one of %s", service, strings.Join(known, ", "))
		case url == "":
			return fmt.Errorf("--database %s: want SERVICE=URL", service)
		case t.databases[service] != "":
			return fmt.Errorf("--database: service %q is given twice", service)
		}
		t.databases[service] = url
	}
	return nil
}

// databasesKnown says whether it is known where each service's database is.
func (t *target) databasesKnown() bool {
	return t.postgres != "" || len(t.databases) == len(stack.Databases())
}

// serviceNames are those that have a database.
func serviceNames() []string {
	var names []string
	for _, d := range stack.Databases() {
		names = append(names, d.Service)
	}
	return names
}

// places are the databases of all services.
func (t *target) places() []place {
	var all []place
	for _, d := range stack.Databases() {
		url := stack.DatabaseURL(t.postgres, d.Name)
		if of, ok := t.databases[d.Service]; ok {
			url = of
		}
		all = append(all, place{d.Service, d.Name, url})
	}
	return all
}

// client calls the gateway of the target.
func (t *target) client() *client.Client {
	return stack.State{Gateway: t.gateway, Authority: t.authority}.Client()
}

// kafkaSecurity reads how Kafka is spoken to from the variables that the services
// read it from.
func kafkaSecurity() (broker.Security, error) {
	var cfg struct{ Kafka broker.Security }
	err := config.Load(service.Prefix, &cfg)
	return cfg.Kafka, err
}
