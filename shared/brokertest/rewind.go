package brokertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"pavane/shared/broker"
)

// rewindPause is the pause between two looks at a group whose members commit.
const rewindPause = 20 * time.Millisecond

// Rewind sets the offsets that groups have committed back to 0, for all partitions
// of the topics, as somebody with Kafka's tools would, and while their members
// live: it joins each group and commits. When all were seen at 0 it calls then,
// and leaves. A member that is at work commits its own place again at any time.
func Rewind(t testing.TB, addr string, groups, topics []string, partitions int, then func()) {
	t.Helper()
	client, err := broker.Dial(broker.Config{Brokers: strings.Split(addr, ","), ClientID: "rewind", Topics: topics})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	rewound, left := make(chan string, len(groups)), make(chan error, len(groups))
	for _, group := range groups {
		go func() {
			left <- client.Group(ctx, broker.GroupConfig{ID: group, Topics: topics}, func(ctx context.Context, a *broker.Assignment) error {
				if err := rewind(ctx, addr, group, a, topics, partitions); err != nil {
					return err // the next generation tries again
				}
				rewound <- group
				<-ctx.Done()
				return nil
			})
		}()
	}
	waiting := map[string]bool{}
	for _, group := range groups {
		waiting[group] = true
	}
	for len(waiting) > 0 && ctx.Err() == nil {
		select {
		case group := <-rewound:
			delete(waiting, group)
		case <-ctx.Done():
			t.Errorf("groups %v were not rewound in time", waiting)
		}
	}
	then()
	cancel()
	for range groups {
		if err := <-left; err != nil {
			t.Errorf("leave a group: %v", err)
		}
	}
}

// rewind commits 0 for every partition until the broker says that it is so.
func rewind(ctx context.Context, addr, group string, a *broker.Assignment, topics []string, partitions int) error {
	zero := map[string]map[int]int64{}
	for _, topic := range topics {
		zero[topic] = map[int]int64{}
		for p := range partitions {
			zero[topic][p] = 0
		}
	}
	for {
		if err := a.Commit(zero); err != nil {
			return err
		}
		furthest, err := committed(addr, group, topics, partitions)
		if err != nil || furthest == 0 {
			return err
		}
		select {
		case <-time.After(rewindPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// committed is the highest offset that a group has committed.
func committed(addr, group string, topics []string, partitions int) (furthest int64, err error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	asked := kmsg.NewOffsetFetchRequestGroup()
	req.Group, asked.Group = group, group
	for _, topic := range topics {
		old, now := kmsg.NewOffsetFetchRequestTopic(), kmsg.NewOffsetFetchRequestGroupTopic()
		old.Topic, now.Topic = topic, topic
		for p := range partitions {
			old.Partitions, now.Partitions = append(old.Partitions, int32(p)), append(now.Partitions, int32(p))
		}
		req.Topics, asked.Topics = append(req.Topics, old), append(asked.Topics, now)
	}
	req.Groups = append(req.Groups, asked)
	resp, err := request[*kmsg.OffsetFetchResponse](addr, req)
	if err != nil {
		return 0, err
	}
	if len(resp.Groups) != 1 {
		return 0, fmt.Errorf("offsets of group %s: %d groups in the answer", group, len(resp.Groups))
	}
	err = kerr.ErrorForCode(resp.Groups[0].ErrorCode)
	for _, topic := range resp.Groups[0].Topics {
		for _, p := range topic.Partitions {
			err = errors.Join(err, kerr.ErrorForCode(p.ErrorCode))
			furthest = max(furthest, p.Offset)
		}
	}
	return furthest, err
}
