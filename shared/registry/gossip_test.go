package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"pavane/internal/leaks"
)

func TestMain(m *testing.M) { os.Exit(leaks.Main(m.Run)) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// member starts a gossip member that is stopped at the end of the test. It probes
// the others so rarely that they are not taken for dead while the machine is busy.
func member(t *testing.T, c GossipConfig) *Gossip {
	t.Helper()
	return memberAt(t, 10*probeInterval, c)
}

// watchful is a member that finds a crash as soon as it does in earnest.
func watchful(t *testing.T, c GossipConfig) *Gossip {
	t.Helper()
	return memberAt(t, probeInterval, c)
}

func memberAt(t *testing.T, probes time.Duration, c GossipConfig) *Gossip {
	t.Helper()
	if c.HTTPAddr == "" {
		c.HTTPAddr = "127.0.0.1:8080"
	}
	if c.Logger == nil {
		c.Logger = quiet()
	}
	g, err := NewGossip(c)
	if err != nil {
		t.Fatal(err)
	}
	g.probes = probes
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := g.members.Load().Shutdown(); err != nil { // a second time for those that left
			t.Error(err)
		}
	})
	return g
}

// limit is longer than anything takes here, however busy the machine is.
const limit = time.Minute

// within polls until ok and returns how long that took.
func within(t *testing.T, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %s: %s", limit, what)
		case <-tick.C:
		}
	}
	return time.Since(begin)
}

func see(members []*Gossip, service string, n int) func() bool {
	return func() bool {
		for _, g := range members {
			if len(g.Lookup(service)) != n {
				return false
			}
		}
		return true
	}
}

func TestGossip_FiveServices_SeeEachOther_CrashAndLeaveDisappear(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, 32)
	names := []string{"order-svc", "payment-svc", "inventory-svc", "notification-svc", "gateway-svc"}
	seed := watchful(t, GossipConfig{Service: names[0], Version: "1.2", Keys: [][]byte{key}, Allowed: names})
	members := []*Gossip{seed}
	for _, name := range names[1:] {
		members = append(members, watchful(t, GossipConfig{Service: name, Keys: [][]byte{key}, Join: []string{seed.Addr()}, Allowed: names}))
	}
	second := watchful(t, GossipConfig{Service: "order-svc", HTTPAddr: ":9090", Keys: [][]byte{key}, Join: []string{seed.Addr()}, Allowed: names})
	for _, name := range names[1:] {
		within(t, "all see "+name, see(members, name, 1))
	}
	found := map[string]Instance{}
	within(t, "all see two order-svc", func() bool {
		clear(found)
		for _, i := range members[4].Lookup("order-svc") {
			found[i.Addr] = i
		}
		return len(found) == 2 && see(members, "order-svc", 2)()
	})
	if i := found["127.0.0.1:8080"]; i.Version != "1.2" || i.Service != "order-svc" || time.Since(i.Started) > time.Minute {
		t.Errorf("what the first says of itself arrived as %+v", i)
	}
	if _, ok := found["127.0.0.1:9090"]; !ok {
		t.Errorf("an address without a host was not completed: %v", found)
	}

	if err := second.members.Load().Shutdown(); err != nil { // as after kill -9: nobody is told
		t.Fatal(err)
	}
	took := within(t, "the crash is seen by all", see(members, "order-svc", 1))
	t.Logf("a crash was seen by all after %s", took)

	if err := members[1].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	rest := append([]*Gossip{seed}, members[2:]...)
	took = within(t, "the leave is seen by all", see(rest, "payment-svc", 0))
	t.Logf("a leave was seen by all after %s", took)
}

// How soon a crash is found depends on the machine; how soon it must be found on an
// idle one does not.
func TestGossip_Pace_FindsACrashWithinThreeSeconds(t *testing.T) {
	t.Parallel()
	g, err := NewGossip(GossipConfig{Service: "order-svc", HTTPAddr: ":80", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := g.memberlistConfig()
	if err != nil {
		t.Fatal(err)
	}
	certain := c.ProbeInterval * time.Duration(2+c.SuspicionMult*c.SuspicionMaxTimeoutMult)
	if certain > 3*time.Second || c.ProbeTimeout >= c.ProbeInterval {
		t.Errorf("a crash is certain after %s, and each of the probes every %s has %s; want 3 s at most, and less than the time between them", certain, c.ProbeInterval, c.ProbeTimeout)
	}
}

func TestGossip_SeedStartsLater_IsJoined(t *testing.T) {
	t.Parallel()
	addr := freePort(t)
	failed := make(chan struct{})
	tell := sync.OnceFunc(func() { close(failed) })
	log := slog.New(slog.NewTextHandler(writerFunc(func(b []byte) {
		if strings.Contains(string(b), "do not answer") {
			tell()
		}
	}), nil))
	early := member(t, GossipConfig{Service: "order-svc", Join: []string{addr, "not an address"}, Logger: log})
	<-failed
	late := member(t, GossipConfig{Service: "payment-svc", Bind: addr, Join: []string{addr}})
	within(t, "both see both", func() bool {
		return len(early.Lookup("payment-svc")) == 1 && len(late.Lookup("order-svc")) == 1
	})
}

// writerFunc is a log.
type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

func TestGossip_SeedRestarted_IsFoundAgainWithItsNewID(t *testing.T) {
	t.Parallel()
	seed := watchful(t, GossipConfig{Service: "order-svc", ID: "old"})
	addr := seed.Addr()
	other := watchful(t, GossipConfig{Service: "payment-svc", Join: []string{addr}})
	within(t, "they see each other", see([]*Gossip{seed, other}, "payment-svc", 1))
	if err := seed.members.Load().Shutdown(); err != nil {
		t.Fatal(err)
	}
	again := watchful(t, GossipConfig{Service: "order-svc", ID: "new", Bind: addr}) // it knows nobody
	within(t, "they see each other again", func() bool {
		found := other.Lookup("order-svc")
		return len(found) == 1 && found[0].ID == "new" && len(again.Lookup("payment-svc")) == 1
	})
}

func TestGossip_SameIDAtAnotherAddress_ReplacesTheDeadOne(t *testing.T) {
	t.Parallel()
	first := watchful(t, GossipConfig{Service: "order-svc", ID: "one", HTTPAddr: "127.0.0.1:1111"})
	other := watchful(t, GossipConfig{Service: "payment-svc", Join: []string{first.Addr()}})
	within(t, "they see each other", see([]*Gossip{first, other}, "payment-svc", 1))
	if err := first.members.Load().Shutdown(); err != nil {
		t.Fatal(err)
	}
	watchful(t, GossipConfig{Service: "order-svc", ID: "one", HTTPAddr: "127.0.0.1:2222", Join: []string{other.Addr()}})
	within(t, "the new address counts", func() bool {
		found := other.Lookup("order-svc")
		return len(found) == 1 && found[0].Addr == "127.0.0.1:2222"
	})
}

func TestGossip_WrongKeyOrNone_IsNotBelieved(t *testing.T) {
	t.Parallel()
	seed := member(t, GossipConfig{Service: "order-svc", Keys: [][]byte{bytes.Repeat([]byte{1}, 32)}})
	friend := member(t, GossipConfig{Service: "gateway-svc", Keys: [][]byte{bytes.Repeat([]byte{1}, 32)}, Join: []string{seed.Addr()}})
	strangers := []*Gossip{
		member(t, GossipConfig{Service: "payment-svc", Keys: [][]byte{bytes.Repeat([]byte{2}, 32)}}),
		member(t, GossipConfig{Service: "payment-svc"}),
	}
	for _, s := range strangers {
		if _, err := s.members.Load().Join([]string{seed.Addr()}); err == nil {
			t.Error("a stranger joined")
		}
	}
	within(t, "the friend is in", see([]*Gossip{seed}, "gateway-svc", 1))
	for _, g := range []*Gossip{seed, friend} {
		if found := g.Lookup("payment-svc"); len(found) > 0 {
			t.Errorf("a stranger is believed: %v", found)
		}
	}
	for _, s := range strangers {
		if found := s.Lookup("order-svc"); len(found) > 0 {
			t.Errorf("a stranger learnt of %v", found)
		}
	}
}

// forger speaks memberlist directly, so it can say anything.
type forger struct {
	meta
	text string
}

func (f forger) NodeMeta(int) []byte { return []byte(f.text) }

func TestGossip_ForgedMember_IsIgnored(t *testing.T) {
	t.Parallel()
	seed := member(t, GossipConfig{Service: "order-svc", Allowed: []string{"order-svc", "payment-svc"}})
	const good = `{"addr":"127.0.0.1:1"}`
	forge := func(name, text string) {
		c := memberlist.DefaultLocalConfig()
		c.Name, c.Label, c.BindAddr, c.BindPort = name, label, "127.0.0.1", 0
		c.Delegate, c.LogOutput = forger{text: text}, io.Discard
		m, err := memberlist.Create(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Shutdown() })
		if _, err := m.Join([]string{seed.Addr()}); err != nil {
			t.Fatalf("%s cannot even speak: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"gateway-svc/x":    good, // a name it may not take
		"payment-svc":      good, // no id
		"payment-svc/a/b":  good,
		"Payment-svc/x":    good,
		"payment-svc/noj":  "hello",
		"payment-svc/no":   "",
		"payment-svc/url":  `{"addr":"http://evil/127.0.0.1:1"}`,
		"payment-svc/user": `{"addr":"user@127.0.0.1:1"}`,
		"payment-svc/path": `{"addr":"127.0.0.1:1/admin"}`,
		"payment-svc/port": `{"addr":"127.0.0.1:0"}`,
		"payment-svc/vers": `{"addr":"127.0.0.1:1","version":"<script>"}`,
	} {
		forge(name, text)
	}
	forge("payment-svc/real", good) // the last, so that all before it have been heard
	within(t, "the good one is believed", func() bool { return len(seed.Lookup("payment-svc")) > 0 })
	if found := seed.Lookup("payment-svc"); len(found) != 1 || found[0].ID != "real" {
		t.Errorf("believed: %v", found)
	}
	for _, name := range []string{"gateway-svc", "Payment-svc"} {
		if found := seed.Lookup(name); len(found) > 0 {
			t.Errorf("believed: %v", found)
		}
	}
	if n := seed.members.Load().NumMembers(); n != 2 {
		t.Errorf("%d members, want the seed and the good one", n)
	}
}

func TestGossip_OnChange_TellsComingAndGoing(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var changes []string
	told := func(want string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Contains(strings.Join(changes, " "), want)
		}
	}
	seed := member(t, GossipConfig{Service: "order-svc", ID: "a", OnChange: func(c Change) {
		mu.Lock()
		defer mu.Unlock()
		changes = append(changes, fmt.Sprintf("%s/%s:%v", c.Instance.Service, c.Instance.ID, c.Up))
	}})
	other := member(t, GossipConfig{Service: "payment-svc", ID: "b", Join: []string{seed.Addr()}})
	within(t, "it came", told("order-svc/a:true payment-svc/b:true"))
	if err := other.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, "it went", told("payment-svc/b:true payment-svc/b:false"))
}

func TestNewGossip_WhatNobodyWouldBelieve_IsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]GossipConfig{
		"service name":      {Service: "Order", HTTPAddr: ":80"},
		"host:port":         {Service: "order-svc", HTTPAddr: "x"},
		"port from 1":       {Service: "order-svc", HTTPAddr: "127.0.0.1:0"},
		"allowed":           {Service: "order-svc", HTTPAddr: ":80", Allowed: []string{"payment-svc"}},
		"version":           {Service: "order-svc", HTTPAddr: ":80", Version: strings.Repeat("1", 65)},
		"16, 24 or 32":      {Service: "order-svc", HTTPAddr: ":80", Keys: [][]byte{[]byte("short")}},
		"<service>/<id>":    {Service: "order-svc", HTTPAddr: ":80", ID: "a/b"},
		"over the limit of": {Service: "order-svc", HTTPAddr: strings.Repeat("a", 600) + ":80"},
	} {
		if _, err := NewGossip(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
