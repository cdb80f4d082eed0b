package devstack

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"pavane/internal/await"
)

// shortSession is waited for, and longer than a busy machine keeps a living member
// from saying that it lives.
const shortSession = 5 * time.Second

// joinGroup sends what a member sends to join; an empty id asks for one.
func joinGroup(ctx context.Context, client *kgo.Client, id string) (*kmsg.JoinGroupResponse, error) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = "g", id, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(shortSession.Milliseconds()), 60_000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name = "range"
	req.Protocols = append(req.Protocols, protocol)
	return req.RequestWith(ctx, client)
}

func mustJoin(t *testing.T, client *kgo.Client, id string) *kmsg.JoinGroupResponse {
	t.Helper()
	resp, err := joinGroup(testContext(t), client, id)
	if err == nil && resp.ErrorCode != kerr.MemberIDRequired.Code {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// lead sends the leader's sync, after which the group is stable.
func lead(t *testing.T, client *kgo.Client, joined *kmsg.JoinGroupResponse) {
	t.Helper()
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = "g", joined.MemberID, joined.Generation
	resp, err := req.RequestWith(testContext(t), client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A member is killed while it waits for the others to join. Nobody joins after
// it: without an end of its session, its partitions would be nobody's for ever.
func TestBroker_MemberKilledWhileItWaits_LeavesTheGroup(t *testing.T) {
	t.Parallel()
	b, err := StartBroker(BrokerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	alive := connect(t, b.Addr())
	first := mustJoin(t, alive, mustJoin(t, alive, "").MemberID)
	lead(t, alive, first)

	// As kafka-go does: in these versions a member has no name before the answer.
	killed, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.MaxVersions(kversion.V1_0_0()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(killed.Close)
	ctx, kill := context.WithCancel(testContext(t))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		joinGroup(ctx, killed, "") //nolint:errcheck // it never gets an answer
	}()
	members := func() int { return len(b.Cluster().GroupInfo("g").Members) }
	await.True(t, time.Minute, "the second member waits", func() bool { return members() == 2 })
	kill()
	<-ended
	killed.Close()

	again := mustJoin(t, alive, first.MemberID)
	if len(again.Members) != 2 {
		t.Fatalf("%d members joined; the test wants the dead one among them", len(again.Members))
	}
	lead(t, alive, again)
	heartbeat := kmsg.NewPtrHeartbeatRequest()
	heartbeat.Group, heartbeat.MemberID, heartbeat.Generation = "g", again.MemberID, again.Generation
	await.True(t, time.Minute, "the dead member has left, the living one has not", func() bool {
		resp, err := heartbeat.RequestWith(testContext(t), alive)
		if err != nil {
			t.Fatal(err)
		}
		return resp.ErrorCode == kerr.RebalanceInProgress.Code && members() == 1
	})
}
