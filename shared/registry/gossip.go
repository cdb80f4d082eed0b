package registry

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// The pace of the gossip. A crash is suspected within about two probe intervals
// and certain after three more, so within two seconds for clusters of this size.
const (
	probeInterval  = 300 * time.Millisecond // each has half of it for the answer
	streamTimeout  = time.Second
	gossipInterval = 100 * time.Millisecond
	leaveTimeout   = 2 * time.Second
)

// The pace of joining: seeds that are not members are tried again for ever.
const (
	joinInterval     = 500 * time.Millisecond
	joinWarnInterval = 30 * time.Second
)

// label keeps other memberlist clusters on the same network apart.
const label = "pavane"

// GossipConfig says who this process is and whom it believes.
type GossipConfig struct {
	Service  string // the name this process takes
	ID       string // empty: a random one, which is what a process that may crash and return needs
	Version  string // of the binary; may be empty
	HTTPAddr string // host:port for others; without a host, or with 0.0.0.0 or ::, the gossip address's host

	Bind      string   // host:port for gossip, TCP and UDP; port 0 takes a free one; empty: 127.0.0.1:0
	Advertise string   // host:port that others reach Bind at; empty: as bound
	Join      []string // host:port of some members; names may stand for many addresses; may hold this process
	Keys      [][]byte // each of 16, 24 or 32 bytes; the first encrypts, all decrypt. Empty: no encryption
	Allowed   []string // services a member may name itself; empty: any

	SigningKey  ed25519.PrivateKey             // proves that this process may take the name; empty: no proof
	ServiceKeys map[string][]ed25519.PublicKey // whose proof is believed for a name; empty: no proof is asked for
	Networks    []netip.Prefix                 // where the IP of a member's HTTP address must lie; empty: anywhere

	Logger   *slog.Logger // required
	OnChange func(Change) // called for each change, one at a time; it must not block. May be nil
}

// Gossip is a registry without a server: the processes tell each other. Start,
// Run and Stop are the functions of a lifecycle part.
type Gossip struct {
	config  GossipConfig
	started time.Time
	table   *table
	members atomic.Pointer[memberlist.Memberlist]
	probes  time.Duration // between two of them; longer in tests that are not about crashes

	// Where members gossip, by their names. It is kept here because the nodes that
	// memberlist hands out change under their reader.
	mu    sync.Mutex
	peers map[string]string
	own   string

	refused refusals
}

// NewGossip checks the configuration. Nothing is sent before Start.
func NewGossip(c GossipConfig) (*Gossip, error) {
	if c.ID == "" {
		c.ID = strings.ToLower(rand.Text()[:12])
	}
	if c.Bind == "" {
		c.Bind = "127.0.0.1:0"
	}
	c.HTTPAddr = c.ownAddr()
	g := &Gossip{config: c, started: time.Now(), table: newTable(), probes: probeInterval, peers: map[string]string{}}
	for _, key := range c.Keys {
		if !validKey(key) {
			return nil, fmt.Errorf("registry: a gossip key of %d bytes (not shown) cannot be used: give 16, 24 or 32", len(key))
		}
	}
	// The first reader of what this process says of itself is this process.
	meta, err := g.encodeMeta()
	if err == nil {
		_, err = g.instanceOf(g.node(), net.IPv4(127, 0, 0, 1), meta)
	}
	if err != nil {
		return nil, fmt.Errorf("registry: this process cannot register: %w", err)
	}
	return g, nil
}

// ownAddr is the HTTP address as others can use it: a host that means "all of my
// addresses" gives way to that of the gossip, where it says which one that is.
func (c GossipConfig) ownAddr() string {
	for _, gossip := range []string{c.Advertise, c.Bind} {
		host, _, err := splitAddr(gossip)
		if ip := net.ParseIP(host); err == nil && !ip.IsUnspecified() {
			return reachable(c.HTTPAddr, ip)
		}
	}
	return c.HTTPAddr
}

// Start binds the gossip port and registers this process.
func (g *Gossip) Start(ctx context.Context) error {
	c, err := g.memberlistConfig()
	if err != nil {
		return err
	}
	m, err := memberlist.Create(c)
	if err != nil {
		return fmt.Errorf("registry: start gossip on %s: %w: choose a host:port that is free for TCP and UDP", g.config.Bind, err)
	}
	g.members.Store(m)
	g.config.Logger.InfoContext(ctx, "registered", "node", c.Name, "gossip", g.Addr(), "http", g.config.HTTPAddr)
	return nil
}

// Addr is the host:port that others may join; empty before Start.
func (g *Gossip) Addr() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.own
}

// node is the name of this process among the members.
func (g *Gossip) node() string { return g.config.Service + "/" + g.config.ID }

// heard notes where a member gossips; an empty addr: nowhere any more.
func (g *Gossip) heard(node, addr string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if addr == "" {
		delete(g.peers, node)
		return
	}
	g.peers[node] = addr
	if node == g.node() {
		g.own = addr
	}
}

// isPeer says whether a live member, or this process, gossips at addr.
func (g *Gossip) isPeer(addr string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, peer := range g.peers {
		if peer == addr {
			return true
		}
	}
	return addr == g.own
}

// Lookup returns the instances taken for alive, this process among them.
func (g *Gossip) Lookup(service string) []Instance { return g.table.lookup(service) }

// Run keeps this process in touch with the Join addresses until ctx ends, so that
// the order of starts does not matter and a seed that was restarted is found
// again.
func (g *Gossip) Run(ctx context.Context) error {
	tick := time.NewTicker(joinInterval)
	defer tick.Stop()
	warned := time.Now() // seeds that start together with this process get a moment
	for {
		if err := g.join(ctx); err != nil && ctx.Err() == nil && time.Since(warned) > joinWarnInterval {
			warned = time.Now()
			g.config.Logger.WarnContext(ctx, "some registry seeds do not answer; trying on", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Stop tells the others and ends the gossip. The notice can be lost; then they
// find out by probing, as after a crash.
func (g *Gossip) Stop(ctx context.Context) error {
	m := g.members.Load()
	if m == nil {
		return nil
	}
	wait := leaveTimeout
	if end, ok := ctx.Deadline(); ok {
		wait = max(min(wait, time.Until(end)), time.Millisecond)
	}
	if err := m.Leave(wait); err != nil {
		g.config.Logger.DebugContext(ctx, "the notice of leaving may be lost", "error", err)
	}
	if err := m.Shutdown(); err != nil {
		return fmt.Errorf("registry: end the gossip: %w", err)
	}
	return nil
}

// join contacts every seed that is not a live member yet.
func (g *Gossip) join(ctx context.Context) error {
	m := g.members.Load()
	if m == nil {
		return errors.New("registry: Run was called before Start")
	}
	var errs []error
	for _, seed := range g.config.Join {
		addrs, err := resolve(ctx, seed)
		errs = append(errs, err)
		for _, addr := range addrs {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if g.isPeer(addr) {
				continue
			}
			if _, err := m.Join([]string{addr}); err != nil {
				errs = append(errs, fmt.Errorf("seed %s: %w", seed, err))
			}
		}
	}
	return errors.Join(errs...)
}

// resolve returns the addresses behind a seed. memberlist would ask the name
// server for records of any type over TCP first, which many refuse.
func resolve(ctx context.Context, seed string) ([]string, error) {
	host, port, err := net.SplitHostPort(seed)
	if err != nil {
		return nil, fmt.Errorf("seed %q is not host:port: %w", seed, err)
	}
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("seed %q: %w", seed, err)
	}
	addrs := make([]string, len(ips))
	for i, ip := range ips {
		addrs[i] = net.JoinHostPort(ip, port)
	}
	return addrs, nil
}

func (g *Gossip) memberlistConfig() (*memberlist.Config, error) {
	c := memberlist.DefaultLANConfig()
	c.Name = g.node()
	c.Label = label
	if len(g.config.Keys) > 0 {
		ring, err := memberlist.NewKeyring(g.config.Keys, g.config.Keys[0])
		if err != nil {
			return nil, fmt.Errorf("registry: the gossip keys: %w", err)
		}
		c.Keyring = ring
	}
	c.Delegate, c.Events, c.Alive = meta{g}, events{g}, alive{g}
	c.LogOutput = logWriter{g.config.Logger}
	c.RequireNodeNames = false // seeds are known by address only
	c.ProbeInterval, c.ProbeTimeout = g.probes, g.probes/2
	c.TCPTimeout = streamTimeout
	c.EnableCompression = false // what is said is short, and nobody's bytes need unpacking
	c.GossipInterval = gossipInterval
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 3, 2
	c.PushPullInterval = 3 * time.Second // small clusters: cheap, and it heals what gossip missed
	c.GossipToTheDeadTime = 15 * time.Second
	c.DeadNodeReclaimTime = time.Millisecond // a fixed ID may come back at another address
	var err error
	if c.BindAddr, c.BindPort, err = splitAddr(g.config.Bind); err != nil {
		return nil, err
	}
	c.AdvertisePort = c.BindPort
	if g.config.Advertise != "" {
		if c.AdvertiseAddr, c.AdvertisePort, err = splitAddr(g.config.Advertise); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// splitAddr wants an IP, because memberlist binds and advertises nothing else.
func splitAddr(addr string) (ip string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("registry: gossip address %q is not host:port: %w", addr, err)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return "", 0, fmt.Errorf("registry: gossip address %q must begin with an IP: %w", addr, err)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("registry: gossip address %q has no port: %w", addr, err)
	}
	return host, int(n), nil
}
