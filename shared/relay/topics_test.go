package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/failpoint"
	"pavane/shared/outbox"
	"pavane/shared/relay"
)

// rename has rows go to another topic from now on, as a service does that was
// started with another namespace. Its client follows that topic alone.
func (b *bench) rename(addr, topic string) {
	b.t.Helper()
	client, err := broker.Dial(broker.Config{Brokers: strings.Split(addr, ","), Topics: []string{topic}})
	must(b.t, err)
	b.t.Cleanup(client.Close)
	b.client, b.topic = client, topic
	b.out, err = outbox.New(outbox.Config{Source: "/test", Topics: event.Topics{"fact": topic}})
	must(b.t, err)
}

func (b *bench) toItsTopic(c *relay.Config) { c.Topics = []string{b.topic} }

// The old topic stays in the journal, and this client cannot find it.
func TestRelay_TopicWasRenamed_PublishesToTheNewOne(t *testing.T) {
	t.Parallel()
	addr := brokertest.Start(t)
	b := setupOn(t, addr, brokertest.Topic(t, addr, partitions))
	b.write("a", 3)
	must(t, b.relay(nil, b.toItsTopic).Flush(t.Context()))
	b.rename(addr, brokertest.Topic(t, addr, partitions))
	b.write("b", 3)
	must(t, b.relay(nil, b.toItsTopic).Flush(t.Context()))
	b.write("b", 1)
	must(t, b.relay(nil, b.toItsTopic).Flush(t.Context()))
	if n := len(b.log()); n != 4 {
		t.Errorf("the new topic holds %d records, want 4", n)
	}
}

// Keys would go to other partitions than those of before, and lose their order.
func TestRelay_TopicHasAnotherNumberOfPartitions_PublishesNothing(t *testing.T) {
	b := setup(t)
	b.write("a", 3)
	err := b.relay(nil, func(c *relay.Config) { c.Partitions = partitions + 1 }).Flush(t.Context())
	if err == nil || !strings.Contains(err.Error(), "keys would change their place") {
		t.Errorf("flush: %v", err)
	}
	must(t, b.relay(nil).Flush(t.Context()))
	if n := len(b.log()); n != 3 {
		t.Errorf("the topic holds %d records, want 3", n)
	}
}

// What the journal says of a topic that is given up must not have the relay look
// for it, when it is idle, either: what the new one has lost is found all the same.
func TestRelay_TopicWasRenamedAndTheNewOneIsLost_IsHealed(t *testing.T) {
	t.Parallel()
	const topic = "lost"
	server := emptyBroker(t, topic, 0)
	b := setupOn(t, server.Addr(), "before")
	admin, err := broker.Dial(broker.Config{Brokers: []string{server.Addr()}})
	must(t, err)
	t.Cleanup(admin.Close)
	must(t, admin.EnsureTopics(t.Context(), []broker.Topic{{Name: "before", Partitions: partitions, ReplicationFactor: 1}}))
	b.write("a", 3)
	must(t, b.relay(nil, b.toItsTopic).Flush(t.Context()))
	b.rename(server.Addr(), topic)
	b.start(b.relay(nil, b.toItsTopic))
	b.write("b", 3)
	b.await(3)
	await.True(t, 30*time.Second, "the journal knows that all is in the log", func() bool {
		var open bool
		must(t, b.db.Get(t.Context(), &open, `select exists (select from relay_journal j where j.chunk not in (select a.chunk from relay_ack a))`))
		return !open
	})
	server.Close()
	emptyBroker(t, topic, portOf(t, server.Addr())) // with the new topic alone
	await.True(t, 30*time.Second, "the log is whole again", func() bool {
		ranges, err := b.client.Offsets(t.Context(), topic)
		var found int64
		for _, r := range ranges[topic] {
			found += r.End
		}
		return err == nil && found == 3
	})
}

// Rows that waited when the topic was renamed stop the relay with a line that says
// so, planned or not; one with the settings of before brings them into the log.
func TestRelay_RowsWaitForATopicThatWasRenamed_SaysSoAndTheOldSettingsPublishThem(t *testing.T) {
	for name, planned := range map[string]bool{"planned": true, "not planned": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := brokertest.Start(t)
			b := setupOn(t, addr, brokertest.Topic(t, addr, partitions))
			b.write("a", 1)
			must(t, b.relay(nil, b.toItsTopic).Flush(t.Context()))
			b.write("a", 3)
			if planned {
				set, err := failpoint.Parse("relay.after_plan=error")
				must(t, err)
				if err := b.relay(nil).Flush(failpoint.With(t.Context(), set)); err == nil {
					t.Fatal("the relay did not die after its plan")
				}
			}
			before := *b
			b.rename(addr, brokertest.Topic(t, addr, 2*partitions))
			renamed := func(c *relay.Config) { c.Topics, c.Partitions, c.Overdue = []string{b.topic}, 2*partitions, 1 }
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			err := b.relay(nil, renamed).Flush(ctx)
			if err == nil || errors.Is(err, relay.ErrRefuse) || !strings.Contains(err.Error(), "holds rows for topic "+before.topic) {
				t.Errorf("Flush = %v, want an error that time can heal and that names %s", err, before.topic)
			}
			must(t, before.relay(nil, before.toItsTopic).Flush(t.Context()))
			before.requireExact()
			b.write("b", 2)
			must(t, b.relay(nil, renamed).Flush(t.Context()))
			if n := len(b.log()); n != 2 {
				t.Errorf("the new topic holds %d records, want 2", n)
			}
		})
	}
}

// counting counts how often Kafka is asked for the partitions, and fails the first
// times.
type counting struct {
	*broker.Client
	asked, fail atomic.Int32
}

func (c *counting) Offsets(ctx context.Context, topics ...string) (map[string][]broker.Range, error) {
	c.asked.Add(1)
	if c.fail.Add(-1) >= 0 {
		return nil, broker.ErrUnavailable
	}
	return c.Client.Offsets(ctx, topics...)
}

// Kafka is asked while the database is checked: once, when it answers then.
func TestRelay_StartsWithRows_HasCountedThePartitions(t *testing.T) {
	for fails, want := range []int32{1, 2} {
		t.Run(fmt.Sprintf("%d answers fail", fails), func(t *testing.T) {
			b := setup(t)
			b.write("a", 3)
			asks := &counting{Client: b.client}
			asks.fail.Store(int32(fails))
			check := b.begin()
			_, err := check.ExecContext(t.Context(), `lock table relay_identity`) // which holds the check up
			must(t, err)
			b.start(b.relay(asks, b.toItsTopic))
			await.True(t, 30*time.Second, "Kafka is asked", func() bool { return asks.asked.Load() == 1 })
			must(t, check.Rollback())
			b.await(3)
			if n := asks.asked.Load(); n != want {
				t.Errorf("Kafka was asked %d times for the partitions, want %d", n, want)
			}
		})
	}
}

// lines takes as many lines of a log as it has room for.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	select {
	case l <- string(line):
	default:
	}
	return len(line), nil
}

func TestRelay_StartsWithRowsAndOtherPartitions_PublishesNothing(t *testing.T) {
	b := setup(t)
	b.write("a", 3)
	log := make(lines, 1)
	b.start(b.relay(nil, b.toItsTopic, func(c *relay.Config) {
		c.Partitions, c.Logger = partitions+1, slog.New(slog.NewTextHandler(log, nil))
	}))
	select {
	case line := <-log:
		if !strings.Contains(line, "keys would change their place") {
			t.Errorf("the relay says %q", line)
		}
	case <-time.After(30 * time.Second):
		t.Error("the relay does not say why it does not publish")
	}
	if n := len(b.log()); n != 0 {
		t.Errorf("the topic holds %d records, want none", n)
	}
}
