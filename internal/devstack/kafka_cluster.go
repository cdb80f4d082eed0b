package devstack

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// StartKafkaCluster starts a cluster of so many nodes and returns when all take requests. Topics have three replicas
// and min.insync.replicas is 2 where there are three nodes or more, else both are 1. Below Dir each of several nodes
// has a folder of its own. The directories of a stopped cluster cannot be started again: its ports are drawn anew.
// The rest is as StartKafka says.
func StartKafkaCluster(ctx context.Context, cfg KafkaConfig, nodes int) ([]*Kafka, error) {
	classes := ""
	if len(cfg.JVM) == 0 {
		var err error
		if classes, err = kafkaClasses(ctx, cfg); err != nil {
			return nil, fmt.Errorf("start Kafka: %w", err)
		}
	}
	cluster := make([]*Kafka, nodes)
	for i := range cluster {
		cluster[i] = &Kafka{cfg: cfg, classes: classes}
		if nodes > 1 && cfg.Dir != "" {
			cluster[i].cfg.Dir = filepath.Join(cfg.Dir, fmt.Sprintf("node-%d", i+1))
		}
	}
	if err := startNodes(ctx, cluster); err != nil {
		for _, k := range cluster {
			if k.proc != nil {
				k.Kill()
			}
			err = errors.Join(err, k.dir.release())
		}
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	return cluster, nil
}

// startNodes starts all at once: most of them must be up before any takes requests.
func startNodes(ctx context.Context, cluster []*Kafka) error {
	var voters []string
	for i, k := range cluster {
		if err := k.prepare(ctx); err != nil {
			return err
		}
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, k.controllerAddr()))
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails, see its documentation
	group, ctx := errgroup.WithContext(ctx)
	for i, k := range cluster {
		k.seat = seat{id: i + 1, nodes: len(cluster), voters: strings.Join(voters, ","), cluster: base64.RawURLEncoding.EncodeToString(id)}
		group.Go(func() error { return k.start(ctx) })
	}
	return group.Wait()
}

// seat is a node's place in its cluster.
type seat struct {
	id, nodes int
	voters    string // of the controllers' quorum: "1@host:port,…"
	cluster   string // the cluster's id
}

// replication returns how many replicas a topic has, and how many of them must acknowledge.
func (s seat) replication() (replicas, inSync string) {
	if s.nodes < 3 {
		return "1", "1"
	}
	return "3", "2"
}

// heap is the node's heap. A single one uses about 370 MB in all.
func (s seat) heap() string {
	if s.nodes > 1 {
		return "320m"
	}
	return "512m"
}

// InSync tells whether every partition that the node knows of has a leader and all its replicas in sync.
func (k *Kafka) InSync(ctx context.Context) (bool, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Addr()), kgo.RetryTimeout(time.Second))
	if err != nil {
		return false, err
	}
	defer client.Close()
	req := kmsg.NewPtrMetadataRequest() // of all topics
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return false, fmt.Errorf("ask %s for its partitions: %w", k.Addr(), err)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.Leader < 0 || len(p.ISR) < len(p.Replicas) {
				return false, nil
			}
		}
	}
	return true, nil
}
