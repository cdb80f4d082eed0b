// Package broker owns the way to Kafka: it writes batches under a producer's
// sequence numbers, reads partitions from offsets the caller keeps, follows a
// consumer group, and creates and checks topics. It is the only importer of
// kafka-go, and of that it uses what holds: the Transport (connections, TLS,
// SASL, cluster metadata) and ConsumerGroup. Writer, Reader and their retries
// are not used, because they duplicate, reorder and skip records.
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

const (
	defaultTimeout     = 10 * time.Second
	defaultDialTimeout = 3 * time.Second

	// metadataTTL bounds how long a moved leader stays unnoticed. The Transport
	// asks at a random moment below it, so twice as often on average, also when
	// nothing else is to be done. It is also the time limit of that request, so it
	// must not be much shorter.
	metadataTTL = time.Second
)

// Config says how to reach the cluster.
type Config struct {
	Brokers  []string // host:port of some brokers; the others are found through them
	ClientID string   // name in the broker's logs and quotas; "pavane" when empty

	// TLS is asked for each new connection; nil: no TLS. An empty ServerName is
	// filled in per broker.
	TLS func() (*tls.Config, error)

	// Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty: no SASL.
	Mechanism, User, Password string

	// Topics limits the metadata the client keeps to these topics. Only they
	// can be written, read or followed. Empty: all topics of the cluster.
	Topics []string

	DialTimeout time.Duration // connect, TLS and SASL together; 0: 3 s
	Timeout     time.Duration // one request and its answer; 0: 10 s. The broker gives up on a write after half of it
	Logger      *slog.Logger  // nil: no log
}

// Client speaks to one cluster. It is safe for concurrent use.
type Client struct {
	config    Config
	mechanism sasl.Mechanism
	sockets   *sockets
	transport *kafka.Transport
	addr      net.Addr
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc

	correlation atomic.Int32
	faults      faults

	mu      sync.Mutex
	pending map[string]*longPoll // fetches that outlived their caller
}

// Dial prepares a client. It does not touch the network: that happens with the
// first request, so a service can start while Kafka is down.
func Dial(config Config) (*Client, error) {
	if len(config.Brokers) == 0 {
		return nil, errors.New("kafka: no broker address; want host:port of at least one")
	}
	for _, b := range config.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			return nil, fmt.Errorf("kafka: broker address %q: want host:port: %w", b, err)
		}
	}
	mechanism, err := saslMechanism(config)
	if err != nil {
		return nil, err
	}
	config.ClientID = orDefault(config.ClientID, "pavane")
	config.DialTimeout = orDefault(config.DialTimeout, defaultDialTimeout)
	config.Timeout = orDefault(config.Timeout, defaultTimeout)
	config.Logger = orDefault(config.Logger, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{
		config: config, mechanism: mechanism, sockets: newSockets(config), addr: kafka.TCP(config.Brokers...),
		ctx: ctx, cancel: cancel, pending: map[string]*longPoll{},
	}
	c.transport = c.newTransport(config.Topics)
	return c, nil
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

func saslMechanism(config Config) (sasl.Mechanism, error) {
	switch config.Mechanism {
	case "":
		return nil, nil
	case "PLAIN":
		return plain.Mechanism{Username: config.User, Password: config.Password}, nil
	case "SCRAM-SHA-256":
		return scram.Mechanism(scram.SHA256, config.User, config.Password)
	case "SCRAM-SHA-512":
		return scram.Mechanism(scram.SHA512, config.User, config.Password)
	}
	return nil, fmt.Errorf("kafka: SASL mechanism %q: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", config.Mechanism)
}

// newTransport and newDialer are the two places where kafka-go takes
// connection settings; both take them from the one Config. TLS is spoken below
// them, by the sockets.
func (c *Client) newTransport(topics []string) *kafka.Transport {
	return &kafka.Transport{
		Dial: c.sockets.dial, DialTimeout: c.config.DialTimeout, IdleTimeout: time.Minute, MetadataTTL: metadataTTL,
		MetadataTopics: slices.Clone(topics), ClientID: c.config.ClientID, SASL: c.mechanism, Context: c.ctx,
	}
}

func (c *Client) newDialer(s *sockets) *kafka.Dialer {
	return &kafka.Dialer{
		ClientID: c.config.ClientID, DialFunc: s.dial, Timeout: c.config.DialTimeout, SASLMechanism: c.mechanism,
	}
}

// Close ends all requests and connections. Every call that runs or comes later
// fails with ErrUnavailable.
func (c *Client) Close() {
	c.cancel()
	c.transport.CloseIdleConnections()
	c.sockets.shut()
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.pending)
}

// layout returns what the client knows of the cluster and these topics. It
// comes from the Transport's memory, the same the Transport routes by.
func layout(ctx context.Context, t *kafka.Transport, addr net.Addr, topics []string) (*metadata.Response, error) {
	res, err := t.RoundTrip(ctx, addr, &metadata.Request{TopicNames: topics})
	if err != nil {
		return nil, unavailable("cluster metadata", err)
	}
	return res.(*metadata.Response), nil
}

func (c *Client) layout(ctx context.Context, topics []string) (*metadata.Response, error) {
	if c.ctx.Err() != nil {
		return nil, unavailable("cluster metadata", errClosed)
	}
	return layout(ctx, c.transport, c.addr, topics)
}

// limited bounds a request by the configured timeout and by the life of the
// client.
func (c *Client) limited(ctx context.Context, extra time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout+extra)
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}
