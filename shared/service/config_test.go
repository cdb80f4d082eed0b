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
			Brokers: []string{"127.0.0.1:9092"}, Partitions: 6, ReplicationFactor: 1, HTTPAddr: "127.0.0.1:0", Session: 6 * time.Second,
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
