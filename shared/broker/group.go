package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	sessionTimeout   = 6 * time.Second // the least a broker allows by default
	heartbeats       = 6               // in one session
	rebalanceTimeout = 6 * time.Second
	groupBackoff     = 500 * time.Millisecond
	maxGroupBackoff  = 10 * time.Second
	groupTimeout     = 5 * time.Second // one answer of the coordinator
	leaveTimeout     = 3 * time.Second // a farewell that takes longer is not worth it
	steady           = time.Minute     // a generation of this age was a good one
)

// GroupConfig names a consumer group.
type GroupConfig struct {
	ID     string
	Topics []string // all members of a group name the same ones

	// Session is how long a member that crashed holds its partitions; 0 means
	// 6 s, the least that a broker allows by default.
	Session time.Duration
}

// Assignment is what one generation of a group gives to this member.
type Assignment struct {
	// Partitions by topic, in order. It may be empty: there can be more members
	// than partitions.
	Partitions map[string][]int32

	generation *kafka.Generation
}

// Commit tells the broker how far this member is: by topic and partition, the
// offset of the next record to read. It is a hint for tools that show lag. Do
// not start from it: where to read on is kept with the effects.
func (a *Assignment) Commit(next map[string]map[int]int64) error {
	if err := a.generation.CommitOffsets(next); err != nil {
		return unavailable("commit offsets of group "+a.generation.GroupID, err)
	}
	return nil
}

// Group takes part in a consumer group until ctx ends, and then leaves it and
// returns nil. fn is called for every generation. Its context ends with the
// generation; then it must return within a second or so, because the whole
// group waits for it. When fn returns earlier, with or without an error, the
// generation ends and the member joins again after a growing pause. Faults of
// the broker are retried for ever and logged once each.
//
// The only errors are those of a wrong configuration.
func (c *Client) Group(ctx context.Context, config GroupConfig, fn func(ctx context.Context, a *Assignment) error) error {
	g := &member{client: c, config: config, fn: fn, log: c.config.Logger.With(slog.String("group", config.ID))}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	for ctx.Err() == nil {
		if err := g.awaitTopics(ctx); err != nil {
			break
		}
		if err := g.follow(ctx); err != nil {
			return err
		}
	}
	return nil
}

// member is one membership in a group.
type member struct {
	client *Client
	config GroupConfig
	fn     func(context.Context, *Assignment) error
	log    *slog.Logger

	counts map[string]int // partitions by topic, set before joining
	short  atomic.Bool    // as leader, this member saw fewer partitions than that
	logged string         // the last fault logged
	faults int            // generations in a row that ended with a fault
}

// report logs a fault unless it is the one before.
func (g *member) report(what string, err error) {
	line := what + ": " + err.Error()
	if line == g.logged {
		return
	}
	g.logged = line
	g.log.Warn(what, slog.Any("error", err))
}

// awaitTopics waits until all topics are there with a leader for each
// partition. A member that joins earlier gets no partitions, and nothing ever
// tells it of the change.
func (g *member) awaitTopics(ctx context.Context) error {
	topics := make([]Topic, len(g.config.Topics))
	for i, name := range g.config.Topics {
		topics[i].Name = name
	}
	for attempt := 0; ; attempt++ {
		err := g.count(ctx, topics)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			g.report("kafka topics are not ready", err)
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

func (g *member) count(ctx context.Context, topics []Topic) error {
	ctx, cancel := g.client.limited(ctx, 0)
	defer cancel()
	if err := g.client.leaders(ctx, g.client.transport, topics); err != nil {
		return err
	}
	known, err := g.client.layout(ctx, g.config.Topics)
	if err != nil {
		return err
	}
	g.counts = map[string]int{}
	for _, name := range g.config.Topics {
		g.counts[name] = len(partitionsOf(known, name))
	}
	return nil
}

// pause waits between attempts: 0.5 s, doubled each time, at most 10 s.
func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(min(groupBackoff<<min(attempt, 10), maxGroupBackoff))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// follow joins the group and runs generations until ctx ends or the topics
// have to be looked at again.
func (g *member) follow(ctx context.Context) error {
	conns := newSockets(g.client.config)
	session := cmp.Or(g.config.Session, sessionTimeout)
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: g.config.ID, Brokers: g.client.config.Brokers, Dialer: g.client.newDialer(conns), Topics: g.config.Topics,
		GroupBalancers:    []kafka.GroupBalancer{&balancer{member: g}},
		HeartbeatInterval: session / heartbeats, SessionTimeout: session, RebalanceTimeout: rebalanceTimeout,
		JoinGroupBackoff: groupBackoff, Timeout: groupTimeout,
	})
	if err != nil {
		return fmt.Errorf("consumer group %q: %w", g.config.ID, err)
	}
	defer leave(group, conns)
	for {
		generation, err := group.Next(ctx)
		if ctx.Err() != nil || errors.Is(err, kafka.ErrGroupClosed) {
			return nil
		}
		if err != nil {
			g.report("kafka group cannot be joined", err)
			continue
		}
		g.run(ctx, group, generation)
		if g.short.Swap(false) {
			g.report("kafka group", errors.New("the coordinator knew fewer partitions than the cluster has; joining again"))
			_ = pause(ctx, 0)
			return nil
		}
	}
}

// run carries out one generation and returns when fn has returned.
func (g *member) run(ctx context.Context, group *kafka.ConsumerGroup, generation *kafka.Generation) {
	a := &Assignment{Partitions: map[string][]int32{}, generation: generation}
	for topic, partitions := range generation.Assignments {
		for _, p := range partitions {
			a.Partitions[topic] = append(a.Partitions[topic], int32(p.ID))
		}
		slices.Sort(a.Partitions[topic])
	}
	ended := make(chan struct{})
	generation.Start(func(over context.Context) {
		defer close(ended)
		if !g.short.Load() {
			g.call(ctx, over, a)
		}
		if ctx.Err() == nil && !g.short.Load() {
			return
		}
		// When this function returns, kafka-go joins the group again, unless it
		// knows before that the group is closed. A join cut short leaves a dead
		// member behind for which the others wait.
		go func() { _ = group.Close() }()
		_, _ = group.Next(context.Background()) // returns when it knows
	})
	<-ended
}

// call runs fn for one generation, and after a fault of fn the pause.
func (g *member) call(ctx, over context.Context, a *Assignment) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(over, cancel)()
	began := time.Now()
	err := g.fn(ctx, a)
	if ctx.Err() != nil {
		g.faults, g.logged = 0, ""
		return
	}
	if err == nil {
		err = errors.New("the consumer stopped by itself")
	}
	if time.Since(began) > steady {
		g.faults, g.logged = 0, ""
	}
	g.report("kafka group generation ended by the consumer", err)
	// The partitions are kept during the pause: to give them up would only
	// disturb the other members twice.
	_ = pause(ctx, g.faults)
	g.faults++
}

// leave says goodbye so that the others need not wait for the session to run
// out. A member that waits for the coordinator too long is cut off.
func leave(group *kafka.ConsumerGroup, conns *sockets) {
	defer conns.shut()
	left := make(chan struct{})
	go func() {
		defer close(left)
		_ = group.Close()
	}()
	for _, step := range []struct {
		wait time.Duration
		cut  func()
	}{{leaveTimeout, conns.drop}, {time.Second, conns.shut}} {
		timer := time.NewTimer(step.wait)
		select {
		case <-left:
			timer.Stop()
			return
		case <-timer.C:
			step.cut()
		}
	}
	<-left
}

// balancer is kafka-go's range balancer, which gives the same partition
// numbers of all topics to the same member: a key stays with one member. It
// runs on the group's leader and looks whether all partitions are there.
type balancer struct {
	kafka.RangeGroupBalancer
	member *member
}

// AssignGroups implements kafka.GroupBalancer.
func (b *balancer) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	have := map[string]int{}
	for _, p := range partitions {
		have[p.Topic]++
	}
	for topic, want := range b.member.counts {
		if have[topic] < want {
			b.member.short.Store(true)
		}
	}
	// The ranges are cut from the list as it comes, and a broker lists the
	// partitions in any order.
	slices.SortFunc(partitions, func(a, b kafka.Partition) int { return cmp.Compare(a.ID, b.ID) })
	return b.RangeGroupBalancer.AssignGroups(members, partitions)
}
