package devstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// adminPatience bounds one administrative request to the broker in this process.
const adminPatience = 10 * time.Second

// minSession is the shortest session timeout that a consumer group may ask for. Short, so that tests need not
// wait long for a dead member.
const minSession = 100 * time.Millisecond

// BrokerConfig says how the in-process broker runs. The zero value is one on any port that forgets everything.
type BrokerConfig struct {
	// Dir keeps topics, records, offsets and producer states; empty means memory only.
	Dir string
	// Port is the wanted port; 0 means any. A taken one is stepped over.
	Port int
	// Topics are made at the start where they do not exist: name to number of partitions.
	Topics map[string]int
	// SyncWrites makes every produce reach the disk before its answer. Without it a crash of the machine
	// (not of this process) may lose the last records.
	SyncWrites bool
}

// Broker is one broker that speaks the Kafka protocol inside this process. It is real protocol, not real
// durability: one node, no replication.
type Broker struct {
	cluster  *kfake.Cluster
	addr     string
	lock     *Lock
	sessions *sessions
}

// StartBroker starts a broker on loopback and returns when it takes requests. Topics are not made on demand. What a
// crash of the last one in this directory left is recovered, producers' sequence numbers included. It fails when
// another live process uses the directory.
func StartBroker(cfg BrokerConfig) (*Broker, error) {
	b := &Broker{}
	if err := b.start(cfg); err != nil {
		b.sessions.close()
		if b.cluster != nil {
			b.cluster.Close()
		}
		b.lock.Unlock()
		return nil, fmt.Errorf("start broker in %q: %w", cfg.Dir, err)
	}
	return b, nil
}

// start goes through the steps; what it has taken before a fault is given back by the caller.
func (b *Broker) start(cfg BrokerConfig) (err error) {
	l, err := listenFree(cfg.Port)
	if err != nil {
		return err
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.Ports(portOf(l)), kfake.ClusterID("pavane-embedded"), kfake.GroupMinSessionTimeout(minSession),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return l, nil }),
	}
	defer func() {
		if b.cluster == nil {
			_ = l.Close() // kfake may have done so
		}
	}()
	if cfg.SyncWrites {
		opts = append(opts, kfake.SyncWrites())
	}
	if cfg.Dir != "" {
		if err := b.takeDir(cfg.Dir); err != nil {
			return err
		}
		opts = append(opts, kfake.DataDir(cfg.Dir))
	}
	if b.cluster, err = kfake.NewCluster(opts...); err != nil {
		return err
	}
	b.addr = b.cluster.ListenAddrs()[0]
	b.sessions = watchSessions(b.cluster, b.addr)
	if cfg.Dir != "" {
		if err := os.Remove(filepath.Join(cfg.Dir, sequenceFile)); err != nil {
			return fmt.Errorf("forget old sequence numbers: %w", err)
		}
	}
	return b.createTopics(cfg.Topics)
}

// takeDir makes and locks the broker's directory and brings what a crash left there into order.
func (b *Broker) takeDir(dir string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if b.lock, err = tryLock(dir); err != nil {
		return err
	}
	return wrap(restoreSequences(dir), "recover sequence numbers")
}

// createTopics makes the topics that do not exist yet.
func (b *Broker) createTopics(topics map[string]int) error {
	if len(topics) == 0 {
		return nil
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	for name, partitions := range topics {
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, int32(partitions), 1
		req.Topics = append(req.Topics, topic)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addr))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), adminPatience)
	defer cancel()
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", t.Topic, err)
		}
	}
	return nil
}

// Addr returns the broker's host:port.
func (b *Broker) Addr() string { return b.addr }

// Cluster returns the broker itself, whose hooks let a test watch, delay and fail single requests.
func (b *Broker) Cluster() *kfake.Cluster { return b.cluster }

// Close writes what is kept to the directory and stops the broker. The second call does nothing.
func (b *Broker) Close() {
	b.sessions.close()
	b.cluster.Close()
	b.lock.Unlock()
}
