package service

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"pavane/shared/broker"
	"pavane/shared/failpoint"
	"pavane/shared/identity"
	"pavane/shared/telemetry"
)

// minSession is the shortest session of a consumer.
const minSession = 500 * time.Millisecond

// minToken is the least length of the operator's token: what is shorter can be
// guessed.
const minToken = 16

// minRetention is the shortest time that published rows may be kept: what a log
// lost is only noticed while they are there.
const minRetention = time.Hour

// minConns leaves /readyz a connection beside a transaction that waits.
const minConns = 2

// Prefix begins the name of every environment variable.
const Prefix = "PAVANE"

// Config is what every service can be told from outside. A service embeds it in
// its own struct and loads that with config.Load(service.Prefix, &cfg).
type Config struct {
	Database string   `secret:"true" desc:"URL of the service's own database: postgres://user:password@host:port/name?sslmode=verify-full"`
	Brokers  []string `default:"127.0.0.1:9092" desc:"host:port of some Kafka brokers; the others are found through them"`

	MaxConns int `default:"10" desc:"connections of this instance to its database, beside up to 4 of the relay and 2 of its bell; at least 2"`

	Kafka broker.Security

	Migrate     bool   `default:"true" desc:"apply the migrations at the start; false: wait until SERVICE -migrate has applied them, so that the role in the database's URL needs no DDL"`
	RuntimeRole string `desc:"role that is granted the least privileges after the migrations are applied, and loses all others; empty: nobody is"`

	Namespace string `desc:"begins the names of topics and consumer group, so that several systems can share a Kafka; empty: none"`

	Partitions        int  `default:"6" desc:"partitions of every topic; checked at start, because keys move when it changes"`
	ReplicationFactor int  `default:"1" desc:"copies of each partition, for topics that are created"`
	CreateTopics      bool `default:"false" desc:"create missing topics; false: only check them"`

	HTTPAddr string        `default:"127.0.0.1:0" desc:"host:port to serve on; port 0 takes a free one"`
	Drain    time.Duration `default:"0s" desc:"how long requests are still taken after /readyz began to answer 503; a little more than a load balancer's interval"`

	Session time.Duration `default:"6s" desc:"how long Kafka waits for a sign of life before it gives the partitions of this instance to another one; the broker's group.min.session.timeout.ms, 6 s by default, is the least"`

	OperatorToken string `secret:"true" desc:"what an operator must show in the header X-Pavane-Operator to redrive parked keys over HTTP; a gateway without PAVANE_SERVICE_KEY passes it on, so all services have the same; at least 16 characters; empty: nobody can"`

	ServiceKey string `secret:"true" desc:"signs the calls of one service to another, so all have the same; at least 32 bytes; several, separated by commas: the first signs and all are taken, to change it; empty: calls are not signed, and anybody who reaches a service may call it"`

	Registry RegistryConfig
	Log      telemetry.LogConfig

	MaxBacklog    int64         `default:"100000" desc:"events that may wait to be published before new work is refused with 503; 0: any number"`
	MaxBacklogAge time.Duration `default:"0s" desc:"how long an event may wait to be published before new work is refused with 503; 0: any time"`

	Retention time.Duration `default:"24h" desc:"how long published events stay in the outbox, to heal a log that lost some, for replays and stories; at least 1h; all relays of an outbox have the same, or the shortest counts"`

	Relay      bool   `default:"true" desc:"publish the outbox from this process; false: another one does"`
	Failpoints string `desc:"for tests: what goes wrong at which point, such as relay.after_ack=kill@2; @dir: as the file in dir says that is named after the service"`
}

// RegistryConfig says how this instance finds the others: by gossip, unless
// Kubernetes or Static is set.
type RegistryConfig struct {
	Bind      string   `default:"127.0.0.1:0" desc:"host:port for gossip, TCP and UDP; port 0 takes a free one"`
	Advertise string   `desc:"host:port under which others reach the gossip port; empty: as bound"`
	Join      []string `desc:"host:port of some members to join through; empty: be the first"`
	Key       string   `secret:"true" desc:"keys of 16, 24 or 32 bytes as hex or base64, separated by commas: the first encrypts gossip, all decrypt it; empty: none, which is refused beyond the loopback"`
	Allowed   []string `desc:"service names that members may take; empty: any"`

	SigningKey  string         `secret:"true" desc:"Ed25519 private key in PEM that proves to the other members that this instance may take its service's name; empty: no proof"`
	ServiceKeys string         `desc:"public keys that must prove a service's name, or a member is ignored: order-svc=KEY,KEY;payment-svc=KEY; empty: any member is believed"`
	Networks    []netip.Prefix `desc:"networks such as 10.0.0.0/8 in which the address of an instance must lie, or it is ignored; empty: any"`

	Kubernetes string `desc:"domain and port of headless Services to ask the DNS for in place of gossip: shop.svc.cluster.local:8080"`
	Static     string `desc:"fixed addresses in place of gossip: order-svc=host:port,host:port;payment-svc=host:port"`
}

// Validate refuses values that could only fail later.
func (c Config) Validate() error {
	var errs []error
	if len(c.Brokers) == 0 {
		errs = append(errs, fmt.Errorf("%s_BROKERS is empty: name host:port of at least one broker", Prefix))
	}
	if c.Partitions < 1 || c.ReplicationFactor < 1 {
		errs = append(errs, fmt.Errorf("%s_PARTITIONS=%d, %s_REPLICATION_FACTOR=%d: both must be at least 1",
			Prefix, c.Partitions, Prefix, c.ReplicationFactor))
	}
	if c.MaxConns < minConns {
		errs = append(errs, fmt.Errorf("%s_MAX_CONNS=%d: choose at least %d, or a transaction that waits keeps /readyz from the database", Prefix, c.MaxConns, minConns))
	}
	if c.Retention < minRetention {
		errs = append(errs, fmt.Errorf("%s_RETENTION=%s: choose at least %s, or the rows that heal a log are gone before anybody notices", Prefix, c.Retention, minRetention))
	}
	if c.MaxBacklog < 0 || c.MaxBacklogAge < 0 {
		errs = append(errs, fmt.Errorf("%s_MAX_BACKLOG=%d, %s_MAX_BACKLOG_AGE=%s: choose a limit, or 0 for none",
			Prefix, c.MaxBacklog, Prefix, c.MaxBacklogAge))
	}
	if c.Session < minSession {
		errs = append(errs, fmt.Errorf("%s_SESSION=%s: choose at least %s, or a short pause of the process costs it its partitions", Prefix, c.Session, minSession))
	}
	if c.Registry.Static != "" && c.Registry.Kubernetes != "" {
		errs = append(errs, fmt.Errorf("%s_REGISTRY_STATIC and %s_REGISTRY_KUBERNETES are both set: choose one", Prefix, Prefix))
	}
	errs = append(errs, c.Registry.validateReach())
	if c.OperatorToken != "" && len(c.OperatorToken) < minToken {
		errs = append(errs, fmt.Errorf("%s_OPERATOR_TOKEN has %d characters: take at least %d random ones, such as of openssl rand -hex 16", Prefix, len(c.OperatorToken), minToken))
	}
	if _, err := identity.ParseKeys(c.ServiceKey); err != nil {
		errs = append(errs, fmt.Errorf("%s_SERVICE_KEY: %w", Prefix, err))
	}
	if _, _, err := net.SplitHostPort(c.HTTPAddr); err != nil {
		errs = append(errs, fmt.Errorf("%s_HTTP_ADDR=%q: want host:port, such as 127.0.0.1:8080: %w", Prefix, c.HTTPAddr, err))
	}
	if _, err := failpoint.Open(c.Failpoints, ""); err != nil {
		errs = append(errs, fmt.Errorf("%s_FAILPOINTS: %w", Prefix, err))
	}
	return errors.Join(errs...)
}

// validateReach refuses gossip without a key where others than this machine
// could read it and join.
func (r RegistryConfig) validateReach() error {
	if r.Static != "" || r.Kubernetes != "" || r.Key != "" {
		return nil
	}
	for _, addr := range []struct{ name, value string }{{"BIND", r.Bind}, {"ADVERTISE", r.Advertise}} {
		if addr.value != "" && !onLoopback(addr.value) {
			return fmt.Errorf("%s_REGISTRY_%s=%q is not on the loopback and %s_REGISTRY_KEY is empty: anybody who reaches it could join; give all the same key, such as of openssl rand -hex 32, or take 127.0.0.1",
				Prefix, addr.name, addr.value, Prefix)
		}
	}
	return nil
}

// onLoopback tells whether only this machine reaches addr, host:port. The gossip
// itself refuses what has no port.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err != nil || host == "localhost" || ip != nil && ip.IsLoopback()
}
