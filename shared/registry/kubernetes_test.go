package registry

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// nameServer is a DNS server that answers as a cluster's does.
type nameServer struct {
	addr string

	mu    sync.Mutex
	hosts map[string][]string // by the name without its dot
	fault int                 // the code of every answer; none: no answer at all
	aaaa  int                 // the code of every answer about IPv6

	conns  []net.Conn
	closed bool

	asked atomic.Int64
}

// none stands for an answer that never comes.
const none = -1

func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	s := &nameServer{hosts: map[string][]string{}}
	streams, packets := listenBoth(t) // streams carry what is too long for a packet
	s.addr = packets.LocalAddr().String()
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: s}, {Listener: streams, Handler: s}} {
		started, ended := make(chan struct{}), make(chan error, 1)
		server.NotifyStartedFunc = func() { close(started) }
		go func() { ended <- server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			server.Shutdown()
			<-ended
		})
	}
	t.Cleanup(s.hangUp)
	return s
}

// dial is for a resolver, which waits for an answer even when nobody wants it any
// more; hangUp ends that.
func (s *nameServer) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, s.addr)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	s.conns = append(s.conns, c)
	return c, nil
}

func (s *nameServer) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.conns {
		c.Close()
	}
}

// set says which addresses a service has.
func (s *nameServer) set(service string, addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts[service+".shop.svc.cluster.local"] = addrs
}

func (s *nameServer) fail(all, aaaa int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.aaaa = all, aaaa
}

// ServeDNS answers one question.
func (s *nameServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	s.asked.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := new(dns.Msg).SetReply(q)
	kind, name := q.Question[0].Qtype, q.Question[0].Name
	addrs := s.hosts[strings.TrimSuffix(name, ".")]
	switch {
	case s.fault == none:
		return
	case s.fault != 0:
		answer.SetRcode(q, s.fault)
	case kind == dns.TypeAAAA && s.aaaa != 0:
		answer.SetRcode(q, s.aaaa)
	case len(addrs) == 0:
		answer.SetRcode(q, dns.RcodeNameError)
	}
	for _, addr := range addrs {
		ip := netip.MustParseAddr(addr)
		head := dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: 5}
		switch {
		case answer.Rcode != 0:
		case ip.Is4() && kind == dns.TypeA:
			answer.Answer = append(answer.Answer, &dns.A{Hdr: head, A: ip.AsSlice()})
		case ip.Is6() && kind == dns.TypeAAAA:
			answer.Answer = append(answer.Answer, &dns.AAAA{Hdr: head, AAAA: ip.AsSlice()})
		}
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		answer.Truncate(dns.MinMsgSize)
	}
	w.WriteMsg(answer)
}

// kubernetes starts a registry that asks the server, quickly.
func kubernetes(t *testing.T, s *nameServer, c KubernetesConfig) *Kubernetes {
	t.Helper()
	c.Domain, c.Logger = "shop.svc.cluster.local:8080", quiet()
	c.Resolver = &net.Resolver{PreferGo: true, Dial: s.dial}
	k, err := NewKubernetes(c)
	if err != nil {
		t.Fatal(err)
	}
	k.interval = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return k
}

// addrsOf joins what is known of a service.
func addrsOf(r Registry, service string) string {
	var all []string
	for _, i := range r.Lookup(service) {
		all = append(all, i.Addr)
	}
	return strings.Join(all, " ")
}

func TestKubernetes_PodsComeAndGo_AreFollowed(t *testing.T) {
	t.Parallel()
	s := newNameServer(t)
	s.set("order-svc", "10.0.0.2", "10.0.0.1")
	var mu sync.Mutex
	var changes []string
	k := kubernetes(t, s, KubernetesConfig{OnChange: func(c Change) {
		mu.Lock()
		defer mu.Unlock()
		changes = append(changes, fmt.Sprintf("%s %v", c.Instance.Addr, c.Up))
	}})
	if found := addrsOf(k, "order-svc"); found != "10.0.0.1:8080 10.0.0.2:8080" {
		t.Errorf("the first lookup found %q, want both at once", found)
	}
	s.set("order-svc", "10.0.0.2", "fd00::7")
	within(t, "one went, one came", func() bool { return addrsOf(k, "order-svc") == "10.0.0.2:8080 [fd00::7]:8080" })
	s.set("order-svc")
	within(t, "all went", func() bool { return addrsOf(k, "order-svc") == "" })
	s.set("order-svc", "10.0.0.3")
	within(t, "one came back", func() bool { return addrsOf(k, "order-svc") == "10.0.0.3:8080" })
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"10.0.0.1:8080 true", "10.0.0.1:8080 false", "[fd00::7]:8080 true", "10.0.0.3:8080 true"} {
		if !slices.Contains(changes, want) {
			t.Errorf("nobody was told %q: %q", want, changes)
		}
	}
	if len(changes) != 7 {
		t.Errorf("told %q, want seven changes", changes)
	}
}

func TestKubernetes_DNSFails_LastAnswerStandsForAWhile(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string][2]int{
		"server failure":       {dns.RcodeServerFailure, 0},
		"refused":              {dns.RcodeRefused, 0},
		"silence":              {none, 0},
		"half an answer fails": {0, dns.RcodeServerFailure},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newNameServer(t)
			s.set("order-svc", "10.0.0.1", "fd00::2")
			k := kubernetes(t, s, KubernetesConfig{})
			k.Lookup("order-svc")
			s.fail(fault[0], fault[1])
			s.set("order-svc", "10.0.0.3", "fd00::1") // the old ones would be gone, could the server say so
			before := s.asked.Load()
			within(t, "the server is asked again", func() bool { return s.asked.Load() > before+8 })
			if found := addrsOf(k, "order-svc"); found != "10.0.0.1:8080 [fd00::2]:8080" {
				t.Errorf("while the DNS fails: %q, want what it said last", found)
			}
			s.fail(0, 0)
			within(t, "the new answer counts", func() bool { return addrsOf(k, "order-svc") == "10.0.0.3:8080 [fd00::1]:8080" })
		})
	}
}

func TestKubernetes_NoInstanceWhileTheDNSIsAsked_LookupWaitsForNobody(t *testing.T) {
	t.Parallel()
	k := kubernetes(t, newNameServer(t), KubernetesConfig{})
	k.Lookup("order-svc") // the first one: no pod is ready
	w := k.watches()["order-svc"]
	w.mu.Lock() // as while Run asks
	defer w.mu.Unlock()
	found := make(chan []Instance, 1)
	go func() { found <- k.Lookup("order-svc") }()
	select {
	case all := <-found:
		if len(all) > 0 {
			t.Errorf("found %v", all)
		}
	case <-time.After(limit):
		t.Error("a lookup waits for the question that runs")
	}
}

func TestKubernetes_DNSFailsForLong_InstancesAreForgotten(t *testing.T) {
	t.Parallel()
	s := newNameServer(t)
	s.set("order-svc", "10.0.0.1")
	k := kubernetes(t, s, KubernetesConfig{})
	w := &watch{}
	k.ask(t.Context(), "order-svc", w)
	s.fail(dns.RcodeServerFailure, 0)
	w.answered = w.answered.Add(time.Second - maxStale)
	k.ask(t.Context(), "order-svc", w)
	if n := len(k.table.lookup("order-svc")); n != 1 {
		t.Errorf("%d instances a second before the time is up, want 1", n)
	}
	w.answered = w.answered.Add(-2 * time.Second)
	k.ask(t.Context(), "order-svc", w)
	if n := len(k.table.lookup("order-svc")); n != 0 {
		t.Errorf("%d instances a second after the time is up, want none", n)
	}
}

func TestKubernetes_ManyPods_AllAreFound(t *testing.T) {
	t.Parallel()
	s := newNameServer(t)
	var addrs []string
	for i := range 200 { // far more than a packet holds
		addrs = append(addrs, fmt.Sprintf("10.0.1.%d", i+1))
	}
	s.set("order-svc", addrs...)
	if n := len(kubernetes(t, s, KubernetesConfig{}).Lookup("order-svc")); n != 200 {
		t.Errorf("%d instances, want 200", n)
	}
}

func TestKubernetes_AddressOutsideTheNetworks_IsIgnored(t *testing.T) {
	t.Parallel()
	s := newNameServer(t)
	s.set("order-svc", "10.0.0.1", "169.254.169.254", "127.0.0.1")
	k := kubernetes(t, s, KubernetesConfig{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	if found := addrsOf(k, "order-svc"); found != "10.0.0.1:8080" {
		t.Errorf("found %q", found)
	}
	for _, service := range []string{"", "a.b", "Order", "order-svc."} {
		if found := k.Lookup(service); found == nil || len(found) > 0 || len(k.watches()) != 1 {
			t.Errorf("%q is asked for: %v", service, found)
		}
	}
}

func TestNewKubernetes_WrongDomain_IsRefused(t *testing.T) {
	t.Parallel()
	for _, domain := range []string{"", "shop", "shop.svc.cluster.local", "shop:0", "10.0.0.1:80", "http://shop:80", "a b:80"} {
		if _, err := NewKubernetes(KubernetesConfig{Domain: domain, Logger: quiet()}); err == nil {
			t.Errorf("%q is taken", domain)
		}
	}
}
