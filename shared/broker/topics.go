package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

const (
	policyKey    = "cleanup.policy"
	policyDelete = "delete"
	// Kafka refuses what a producer has stamped an hour ahead of it, drops by age
	// what is stamped long ago, and forgets producers by the stamps of their
	// records. So they bear the broker's time, and no database's clock decides that.
	stampKey    = "message.timestamp.type"
	stampBroker = "LogAppendTime"
	// An acknowledgement counts for nothing that only one of three brokers has.
	inSyncKey    = "min.insync.replicas"
	inSyncOfMany = "2"
	many         = 3 // replicas, of which one may be away and writing goes on
)

// Topic is a topic as the project wants it.
type Topic struct {
	Name              string
	Partitions        int
	ReplicationFactor int // 0: the broker's default
	// Configs are what is set at the creation. Unless named here, these are added:
	// cleanup.policy=delete, message.timestamp.type=LogAppendTime and, with three
	// replicas or more, min.insync.replicas=2.
	Configs map[string]string
}

func (t Topic) configs() map[string]string {
	configs := map[string]string{policyKey: policyDelete, stampKey: stampBroker}
	if t.ReplicationFactor >= many {
		configs[inSyncKey] = inSyncOfMany
	}
	maps.Copy(configs, t.Configs)
	return configs
}

// EnsureTopics creates the topics that are missing and waits until all have a
// leader for every partition. It leaves a topic that exists as it is: see
// CheckTopics.
func (c *Client) EnsureTopics(ctx context.Context, topics []Topic) error {
	req := &kafka.CreateTopicsRequest{Addr: c.addr}
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.Name
		config := kafka.TopicConfig{Topic: t.Name, NumPartitions: t.Partitions, ReplicationFactor: t.ReplicationFactor}
		if t.ReplicationFactor == 0 {
			config.ReplicationFactor = -1
		}
		configs := t.configs()
		for _, k := range slices.Sorted(maps.Keys(configs)) {
			config.ConfigEntries = append(config.ConfigEntries, kafka.ConfigEntry{ConfigName: k, ConfigValue: configs[k]})
		}
		req.Topics = append(req.Topics, config)
	}
	// A Transport that is limited to other topics would wait for these in vain.
	transport := c.newTransport(names)
	defer transport.CloseIdleConnections()
	limited, cancel := c.limited(ctx, 0)
	defer cancel()
	res, err := (&kafka.Client{Transport: transport, Timeout: c.config.Timeout}).CreateTopics(limited, req)
	if err != nil {
		return unavailable("create topics", err)
	}
	for _, name := range names {
		var code kafka.Error
		if err := res.Errors[name]; errors.As(err, &code) && code != codeTopicExists {
			return fmt.Errorf("create topic %s: %w: %w", name, class(int16(code)), err)
		}
	}
	if err := c.awaitLeaders(limited, transport, topics); err != nil {
		return err
	}
	return c.awaitServed(limited, slices.DeleteFunc(names, func(name string) bool { return !c.follows(name) }))
}

// follows reports whether the client's own metadata covers the topic.
func (c *Client) follows(topic string) bool {
	return len(c.config.Topics) == 0 || slices.Contains(c.config.Topics, topic)
}

// awaitLeaders waits until the cluster names a leader for every partition.
func (c *Client) awaitLeaders(ctx context.Context, transport *kafka.Transport, topics []Topic) error {
	return poll(ctx, func() error { return c.leaders(ctx, transport, topics) })
}

// awaitServed waits until the leaders answer: a broker is named as a leader a
// moment before it knows that it is one.
func (c *Client) awaitServed(ctx context.Context, topics []string) error {
	if len(topics) == 0 {
		return nil
	}
	return poll(ctx, func() error {
		_, err := c.Offsets(ctx, topics...)
		return err
	})
}

// poll tries until it works or ctx ends; then it returns the last error.
func poll(ctx context.Context, try func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// leaders returns an error when a topic is missing or a partition has no
// leader.
func (c *Client) leaders(ctx context.Context, transport *kafka.Transport, topics []Topic) error {
	if len(topics) == 0 {
		return nil
	}
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.Name
	}
	known, err := layout(ctx, transport, c.addr, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		for partition := range max(len(partitionsOf(known, name)), 1) {
			if _, err := leaderOf(known, name, int32(partition)); err != nil {
				return err
			}
		}
	}
	return nil
}

func partitionsOf(known *metadata.Response, topic string) []metadata.ResponsePartition {
	for i := range known.Topics {
		if known.Topics[i].Name == topic {
			return known.Topics[i].Partitions
		}
	}
	return nil
}

// CheckTopics returns an error that names every topic which is missing, has
// another number of partitions, is not of cleanup.policy=delete, or has three
// replicas and is content with one. Keys are spread by a pinned number of
// partitions, a compacted topic loses events, and so does one whose only replica
// in sync breaks.
func (c *Client) CheckTopics(ctx context.Context, topics []Topic) error {
	ctx, cancel := c.limited(ctx, 0)
	defer cancel()
	req := &kafka.DescribeConfigsRequest{Addr: c.addr}
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.Name
		req.Resources = append(req.Resources, kafka.DescribeConfigRequestResource{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: t.Name, ConfigNames: []string{policyKey, inSyncKey},
		})
	}
	known, err := c.layout(ctx, names)
	if err != nil {
		return err
	}
	var errs []error
	replicas := map[string]int{}
	for _, t := range topics {
		have := partitionsOf(known, t.Name)
		switch {
		case len(have) == 0:
			errs = append(errs, unavailable(t.Name, errors.New("topic is not there (yet); create the topics first")))
		case len(have) != t.Partitions:
			errs = append(errs, fmt.Errorf("topic %s has %d partitions: want %d; a change of the count moves keys between partitions", t.Name, len(have), t.Partitions))
		default:
			replicas[t.Name] = len(have[0].ReplicaNodes)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	res, err := (&kafka.Client{Transport: c.transport, Timeout: c.config.Timeout}).DescribeConfigs(ctx, req)
	if err != nil {
		return unavailable("topic settings", err)
	}
	for _, r := range res.Resources {
		errs = append(errs, checkSettings(r, replicas[r.ResourceName]))
	}
	return errors.Join(errs...)
}

func checkSettings(r kafka.DescribeConfigResponseResource, replicas int) error {
	var code kafka.Error
	if errors.As(r.Error, &code) && code != 0 {
		return answered("settings of topic "+r.ResourceName, int16(code), "")
	}
	for _, e := range r.ConfigEntries {
		switch {
		case e.ConfigName == policyKey && e.ConfigValue != policyDelete:
			return fmt.Errorf("topic %s has %s=%s: want %s; compaction drops events", r.ResourceName, policyKey, e.ConfigValue, policyDelete)
		case e.ConfigName == inSyncKey && e.ConfigValue == "1" && replicas >= many:
			return fmt.Errorf("topic %s has %d replicas and %s=1: one broker that breaks could take acknowledged events along; "+
				"set it by kafka-configs.sh --alter --entity-type topics --entity-name %[1]s --add-config %[3]s=%[4]s", r.ResourceName, replicas, inSyncKey, inSyncOfMany)
		}
	}
	return nil
}

// ClusterID returns the id the cluster was formatted with.
func (c *Client) ClusterID(ctx context.Context) (string, error) {
	ctx, cancel := c.limited(ctx, 0)
	defer cancel()
	known, err := c.layout(ctx, nil)
	if err != nil {
		return "", err
	}
	return known.ClusterID, nil
}

// Range is what the log of a partition holds: the offsets from First to before
// End. An empty log has First equal to End.
type Range struct {
	First, End int64
}

// Offsets returns the ranges of all partitions of the topics, by partition
// number.
func (c *Client) Offsets(ctx context.Context, topics ...string) (map[string][]Range, error) {
	ctx, cancel := c.limited(ctx, 0)
	defer cancel()
	known, err := c.layout(ctx, topics)
	if err != nil {
		return nil, err
	}
	ranges := make(map[string][]Range, len(topics))
	var all []Position
	for _, topic := range topics {
		n := len(partitionsOf(known, topic))
		if n == 0 {
			return nil, unavailable(topic, errors.New("topic is not there (yet)"))
		}
		ranges[topic] = make([]Range, n)
		for partition := range n {
			all = append(all, Position{Topic: topic, Partition: int32(partition)})
		}
	}
	plans, err := c.plan(ctx, all)
	if err != nil {
		return nil, err
	}
	errs := make([]error, 2*len(plans))
	var wg sync.WaitGroup
	for i, plan := range plans {
		wg.Go(func() {
			errs[2*i] = c.listOffsets(ctx, plan, earliest, func(p Position) { ranges[p.Topic][p.Partition].First = p.Offset })
			errs[2*i+1] = c.listOffsets(ctx, plan, latest, func(p Position) { ranges[p.Topic][p.Partition].End = p.Offset })
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return ranges, nil
}

// Special times of the ListOffsets request.
const (
	latest   = -1
	earliest = -2
)

// listOffsets asks one leader, by a ListOffsets request of version 2. kafka-go's
// own opens a connection for each partition.
func (c *Client) listOffsets(ctx context.Context, plan fetchPlan, when int64, set func(Position)) error {
	what := fmt.Sprintf("offsets from broker %d", plan.leader)
	b, err := c.send(ctx, &request{key: protocol.ListOffsets, version: 2, broker: plan.leader, chunks: [][]byte{offsetsBody(plan.positions, when)}})
	if err != nil {
		return unavailable(what, err)
	}
	return readOffsets(what, b, plan.positions, set)
}

func offsetsBody(positions []Position, when int64) []byte {
	body := append(appendInt32(nil, -1), 0) // not a replica, read uncommitted
	body = appendInt32(body, len(positions))
	for _, p := range positions {
		body = appendInt32(appendString(body, p.Topic), 1)
		body = appendInt64(appendInt32(body, int(p.Partition)), when)
	}
	return body
}

// readOffsets hands the offset of each position to set. All must be answered.
func readOffsets(what string, body []byte, positions []Position, set func(Position)) error {
	d := decoder{b: body}
	_ = d.int32() // throttle
	left := len(positions)
	for range d.count() {
		topic := d.string()
		for range d.count() {
			p := Position{Topic: topic, Partition: d.int32()}
			if code := d.int16(); code != 0 {
				return answered("offsets of "+p.String(), code, "")
			}
			_ = d.int64() // time
			p.Offset = d.int64()
			if d.err == nil && slices.ContainsFunc(positions, func(q Position) bool { return q.Topic == topic && q.Partition == p.Partition }) {
				set(p)
				left--
			}
		}
	}
	if d.err == nil && left != 0 {
		d.err = errShort
	}
	if d.err != nil {
		return unavailable(what, d.err)
	}
	return nil
}
