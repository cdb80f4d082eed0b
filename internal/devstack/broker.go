package devstack

import (
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

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
	cluster *kfake.Cluster
	lock    *fileLock
}

// StartBroker starts a broker on loopback and returns when it accepts connections. Topics are not made on
// demand. It fails when another live process uses the directory.
func StartBroker(cfg BrokerConfig) (*Broker, error) {
	b := &Broker{}
	port, err := FreePort(cfg.Port)
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.Ports(port), kfake.ClusterID("pavane-embedded"), kfake.GroupMinSessionTimeout(minSession),
	}
	for topic, partitions := range cfg.Topics {
		opts = append(opts, kfake.SeedTopics(int32(partitions), topic))
	}
	if cfg.SyncWrites {
		opts = append(opts, kfake.SyncWrites())
	}
	if cfg.Dir != "" {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("start broker: make directory: %w", err)
		}
		if b.lock, err = tryLock(cfg.Dir); err != nil {
			return nil, fmt.Errorf("start broker: %w", err)
		}
		opts = append(opts, kfake.DataDir(cfg.Dir))
	}
	if b.cluster, err = kfake.NewCluster(opts...); err != nil {
		b.lock.unlock()
		return nil, fmt.Errorf("start broker in %q on port %d: %w", cfg.Dir, port, err)
	}
	return b, nil
}

// Addr returns the broker's host:port.
func (b *Broker) Addr() string { return b.cluster.ListenAddrs()[0] }

// Cluster returns the broker itself, whose hooks let a test watch, delay and fail single requests.
func (b *Broker) Cluster() *kfake.Cluster { return b.cluster }

// Close writes what is kept to the directory and stops the broker. The second call does nothing.
func (b *Broker) Close() {
	b.cluster.Close()
	b.lock.unlock()
}
