package devstack

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// sessionTick is how often the broker's groups are looked at.
const sessionTick = 250 * time.Millisecond

// stable is the state of a group in which every member has its partitions and sends heartbeats.
const stable = "Stable"

// sessions makes members leave that nobody hears of any more. kfake starts the timer of a session when it has sent an
// answer; for a member that was killed while it waited for one it never does, and the dead member would keep its
// partitions until somebody else joins.
type sessions struct {
	cluster *kfake.Cluster
	addr    string
	cancel  context.CancelFunc
	done    chan struct{}

	mu     sync.Mutex
	groups map[string]*watchedGroup
}

type watchedGroup struct {
	timeout time.Duration        // the longest session that a member has asked for
	epoch   int32                // of the last look
	since   time.Time            // of the look that first saw this epoch stable
	seen    map[string]time.Time // by member id
}

// watchSessions begins to watch.
func watchSessions(cluster *kfake.Cluster, addr string) *sessions {
	ctx, cancel := context.WithCancel(context.Background())
	s := &sessions{cluster: cluster, addr: addr, cancel: cancel, done: make(chan struct{}), groups: map[string]*watchedGroup{}}
	for _, key := range []kmsg.Key{kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.OffsetCommit} {
		cluster.ControlKey(key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
			s.note(req)
			return nil, nil, false // the broker handles it
		})
	}
	go s.run(ctx)
	return s
}

// close ends the watch, before the broker ends.
func (s *sessions) close() {
	if s != nil {
		s.cancel()
		<-s.done
	}
}

// note takes a sign of life. A member that joins has no id before it gets its answer.
func (s *sessions) note(req kmsg.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r := req.(type) {
	case *kmsg.JoinGroupRequest:
		g := s.groups[r.Group]
		if g == nil {
			g = &watchedGroup{seen: map[string]time.Time{}}
			s.groups[r.Group] = g
		}
		g.timeout = max(g.timeout, time.Duration(r.SessionTimeoutMillis)*time.Millisecond)
	case *kmsg.SyncGroupRequest:
		s.alive(r.Group, r.MemberID)
	case *kmsg.HeartbeatRequest:
		s.alive(r.Group, r.MemberID)
	case *kmsg.OffsetCommitRequest:
		s.alive(r.Group, r.MemberID)
	}
}

func (s *sessions) alive(group, member string) {
	if g := s.groups[group]; g != nil && member != "" {
		g.seen[member] = time.Now()
	}
}

func (s *sessions) run(ctx context.Context) {
	defer close(s.done)
	tick := time.NewTicker(sessionTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, group := range s.names() {
			for _, member := range s.expired(s.cluster.GroupInfo(group)) {
				s.leave(ctx, group, member)
			}
		}
	}
}

func (s *sessions) names() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.groups {
		names = append(names, name)
	}
	return names
}

// expired lists the members of a stable group whose session is over, and forgets those that are gone. In the other
// states members wait, and the broker's own limits hold.
func (s *sessions) expired(info *kfake.GroupInfo) (ids []string) {
	if info == nil || info.State != stable {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g, now := s.groups[info.Group], time.Now()
	if g.since.IsZero() || g.epoch != info.Epoch {
		g.epoch, g.since = info.Epoch, now
	}
	present := make(map[string]time.Time, len(info.Members))
	for _, m := range info.Members {
		last := g.seen[m.MemberID]
		present[m.MemberID] = last
		if last.Before(g.since) {
			last = g.since // until then it may have waited
		}
		if now.Sub(last) > g.timeout {
			ids = append(ids, m.MemberID)
		}
	}
	g.seen = present
	return ids
}

// leave says goodbye in the member's name. When that fails, the next look tries again.
func (s *sessions) leave(ctx context.Context, group, member string) {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.addr))
	if err != nil {
		return
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	req := kmsg.NewPtrLeaveGroupRequest()
	gone := kmsg.NewLeaveGroupRequestMember()
	req.Group, req.MemberID, gone.MemberID = group, member, member
	req.Members = append(req.Members, gone)
	_, _ = req.RequestWith(ctx, client)
}
