package brokertest

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"pavane/shared/broker"
)

// groupMember is a member of a group whose assignments can be awaited.
type groupMember struct {
	client *broker.Client
	news   chan *broker.Assignment
	leave  func()
}

// join begins a membership. fail makes the consumer return that error at its
// first generation.
func (b *bench) join(group, topic string, fail error) *groupMember {
	b.Helper()
	m := &groupMember{client: b.dial(), news: make(chan *broker.Assignment, 100)}
	ctx, cancel := context.WithCancel(b.ctx)
	done := make(chan error, 1)
	go func() {
		done <- m.client.Group(ctx, broker.GroupConfig{ID: group, Topics: []string{topic}}, func(ctx context.Context, a *broker.Assignment) error {
			m.news <- a
			if err := fail; err != nil {
				fail = nil
				return err
			}
			<-ctx.Done()
			return nil
		})
	}()
	left := false
	m.leave = func() {
		if left {
			return
		}
		left = true
		began := time.Now()
		cancel()
		if err := <-done; err != nil {
			b.Errorf("leave the group: %v", err)
		}
		if took := time.Since(began); took > 6*time.Second {
			b.Errorf("leaving the group took %s", took)
		}
	}
	b.Cleanup(m.leave)
	return m
}

// await returns the first assignment with n partitions.
func (b *bench) await(m *groupMember, n int) (*broker.Assignment, []int32) {
	b.Helper()
	for {
		select {
		case a := <-m.news:
			var all []int32
			for _, partitions := range a.Partitions {
				all = append(all, partitions...)
			}
			if len(all) == n {
				return a, all
			}
		case <-b.ctx.Done():
			b.Fatalf("no assignment of %d partitions came", n)
		}
	}
}

func (b *bench) members() {
	topic, group := b.topic(4, nil), "g-"+rand.Text()
	one := b.join(group, topic, nil)
	_, all := b.await(one, 4)
	b.wantEqual("partitions of the only member", all, []int32{0, 1, 2, 3})
	two := b.join(group, topic, nil)
	_, mine := b.await(one, 2)
	_, yours := b.await(two, 2)
	slices.Sort(mine)
	if mine[0]+1 != mine[1] {
		b.Errorf("a member got partitions %v; want neighbours, so that it has the same ones of every topic", mine)
	}
	both := append(mine, yours...)
	slices.Sort(both)
	b.wantEqual("partitions of both", both, []int32{0, 1, 2, 3})
	began := time.Now()
	one.leave()
	if next := <-two.news; len(next.Partitions[topic]) != 4 {
		b.Errorf("the first generation after the leave has partitions %v; want all 4: the leaver joined again on its way out", next.Partitions)
	}
	if took := time.Since(began); took > 5*time.Second {
		b.Errorf("the other member had the partitions back after %s; want less than the session timeout of 6 s", took)
	}
}

func (b *bench) commits() {
	topic, group := b.topic(2, nil), "g-"+rand.Text()
	one := b.join(group, topic, nil)
	old, _ := b.await(one, 2)
	b.must(old.Commit(map[string]map[int]int64{topic: {0: 5, 1: 7}}))
	two := b.join(group, topic, nil)
	b.await(one, 1)
	b.await(two, 1)
	if err := old.Commit(map[string]map[int]int64{topic: {0: 1}}); err == nil {
		b.Fatal("a commit of an ended generation was taken")
	}
}

func (b *bench) failing() {
	topic := b.topic(2, nil)
	m := b.join("g-"+rand.Text(), topic, errors.New("the database is away"))
	b.await(m, 2)
	b.await(m, 2)
}

func (b *bench) lateTopic() {
	name := "c-" + strings.ToLower(rand.Text())
	m := b.join("g-"+rand.Text(), name, nil)
	idle, err := m.client.Fetch(b.ctx, nil, 700*time.Millisecond, 1<<20)
	b.must(err)
	b.wantEqual("records of no partition", len(idle.Records), 0)
	b.wantEqual("generations before the topic exists", len(m.news), 0)
	b.must(b.client.EnsureTopics(b.ctx, []broker.Topic{{Name: name, Partitions: 2, ReplicationFactor: 1}}))
	b.Cleanup(func() { remove(b, b.addr, name) })
	b.await(m, 2)
}
