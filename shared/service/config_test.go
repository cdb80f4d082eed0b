package service_test

import (
	"strings"
	"testing"
	"time"

	"pavane/shared/service"
)

func TestConfig_ValueThatCouldOnlyFailLater_IsNamedWithTheRemedy(t *testing.T) {
	t.Parallel()
	sound := func() service.Config {
		return service.Config{
			Brokers: []string{"127.0.0.1:9092"}, Partitions: 6, ReplicationFactor: 1, HTTPAddr: "127.0.0.1:0", Session: 6 * time.Second, MaxConns: 2, Retention: time.Hour,
			OperatorToken: "sixteen-characters", ServiceKey: "thirty-two-bytes-and-some-more-of-them",
		}
	}
	if err := sound().Validate(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*service.Config){
		"PAVANE_BROKERS is empty":                 func(c *service.Config) { c.Brokers = nil },
		"PAVANE_PARTITIONS=0":                     func(c *service.Config) { c.Partitions = 0 },
		"PAVANE_MAX_BACKLOG=-1":                   func(c *service.Config) { c.MaxBacklog = -1 },
		"PAVANE_MAX_CONNS=1: choose at least 2":   func(c *service.Config) { c.MaxConns = 1 },
		"PAVANE_RETENTION=59m0s: choose at least": func(c *service.Config) { c.Retention = 59 * time.Minute },
		"PAVANE_SESSION=1ms":                      func(c *service.Config) { c.Session = time.Millisecond },
		"PAVANE_OPERATOR_TOKEN has 5 characters":  func(c *service.Config) { c.OperatorToken = "short" },
		"PAVANE_SERVICE_KEY: the service key has": func(c *service.Config) { c.ServiceKey = "short" },
		`PAVANE_HTTP_ADDR="8080": want host:port`: func(c *service.Config) { c.HTTPAddr = "8080" },
		"PAVANE_FAILPOINTS: ":                     func(c *service.Config) { c.Failpoints = "nonsense" },
	} {
		c := sound()
		spoil(&c)
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestConfig_GossipBeyondTheLoopback_TakesAKey(t *testing.T) {
	t.Parallel()
	sound := service.Config{Brokers: []string{"127.0.0.1:9092"}, Partitions: 6, ReplicationFactor: 1, HTTPAddr: "127.0.0.1:0", Session: 6 * time.Second, MaxConns: 2, Retention: time.Hour}
	const refused = "PAVANE_REGISTRY_KEY is empty"
	for name, c := range map[string]struct {
		registry service.RegistryConfig
		want     string // in the error; empty: there is none
	}{
		"bound everywhere":             {service.RegistryConfig{Bind: "0.0.0.0:7946"}, `PAVANE_REGISTRY_BIND="0.0.0.0:7946"`},
		"bound everywhere, in short":   {service.RegistryConfig{Bind: ":7946"}, refused},
		"bound everywhere, by IPv6":    {service.RegistryConfig{Bind: "[::]:7946"}, refused},
		"bound to a network":           {service.RegistryConfig{Bind: "10.1.2.3:7946"}, refused},
		"advertised in a network":      {service.RegistryConfig{Bind: "127.0.0.1:0", Advertise: "10.1.2.3:7946"}, `PAVANE_REGISTRY_ADVERTISE="10.1.2.3:7946"`},
		"with a key":                   {service.RegistryConfig{Bind: "0.0.0.0:7946", Advertise: "10.1.2.3:7946", Key: strings.Repeat("ab", 16)}, ""},
		"on the loopback":              {service.RegistryConfig{Bind: "127.0.0.1:0", Advertise: "127.0.0.2:7946"}, ""},
		"on the loopback, by IPv6":     {service.RegistryConfig{Bind: "[::1]:0"}, ""},
		"on the loopback, by its name": {service.RegistryConfig{Bind: "localhost:0"}, ""},
		"as it is by default":          {service.RegistryConfig{}, ""},
		"no gossip, Kubernetes":        {service.RegistryConfig{Bind: "0.0.0.0:7946", Kubernetes: "shop.svc.cluster.local:8080"}, ""},
		"no gossip, static":            {service.RegistryConfig{Bind: "0.0.0.0:7946", Static: "order-svc=10.1.2.3:8080"}, ""},
	} {
		config := sound
		config.Registry = c.registry
		err := config.Validate()
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
