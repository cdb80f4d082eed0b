package registry

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// metadata is what a member says of itself beside its name, as JSON of at most
// memberlist.MetaMaxSize (512) bytes. Fields may be added; unknown ones are
// skipped, so that versions can mix.
type metadata struct {
	Addr    string `json:"addr"`
	Version string `json:"version,omitempty"`
	Started int64  `json:"started,omitempty"` // Unix milliseconds
	Proof   []byte `json:"proof,omitempty"`   // that the member may take its name, see claim
}

func (g *Gossip) encodeMeta() ([]byte, error) {
	c := g.config
	m := metadata{Addr: c.HTTPAddr, Version: c.Version, Started: g.started.UnixMilli()}
	if len(c.SigningKey) > 0 {
		m.Proof = ed25519.Sign(c.SigningKey, m.claim(c.Service, c.ID))
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write metadata: %w", err)
	}
	if len(b) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("metadata of %d bytes is over the limit of %d", len(b), memberlist.MetaMaxSize)
	}
	return b, nil
}

// instanceOf reads what a member says of itself and refuses what it may not say.
func (g *Gossip) instanceOf(node string, ip net.IP, meta []byte) (Instance, error) {
	service, id, ok := strings.Cut(node, "/")
	if !ok || !idForm.MatchString(id) {
		return Instance{}, fmt.Errorf("member name %q is not <service>/<id>", node)
	}
	if err := checkService(service); err != nil {
		return Instance{}, err
	}
	if len(g.config.Allowed) > 0 && !slices.Contains(g.config.Allowed, service) {
		return Instance{}, fmt.Errorf("service name %q is not among the allowed %v", service, g.config.Allowed)
	}
	if len(meta) > memberlist.MetaMaxSize {
		return Instance{}, fmt.Errorf("metadata of %d bytes is over the limit of %d", len(meta), memberlist.MetaMaxSize)
	}
	var m metadata
	if err := json.Unmarshal(meta, &m); err != nil {
		return Instance{}, fmt.Errorf("metadata is not the expected JSON: %w", err)
	}
	if m.Version != "" && !versionForm.MatchString(m.Version) {
		return Instance{}, fmt.Errorf("version %q is not of letters, digits and . _ + -, 64 at most", m.Version)
	}
	if err := g.checkProof(service, id, m); err != nil {
		return Instance{}, err
	}
	addr := reachable(m.Addr, ip)
	if err := checkAddr(addr); err != nil {
		return Instance{}, err
	}
	if err := checkNetwork(g.config.Networks, addr); err != nil {
		return Instance{}, err
	}
	i := Instance{Service: service, ID: id, Addr: addr, Version: m.Version}
	if m.Started > 0 {
		i.Started = time.UnixMilli(m.Started)
	}
	return i, nil
}

// reachable puts the member's gossip address in place of a host that means "all
// of my addresses".
func reachable(addr string, ip net.IP) string {
	if !isUnspecified(addr) {
		return addr
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr // checkAddr says what is wrong
	}
	return net.JoinHostPort(ip.String(), port)
}

func isUnspecified(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && (host == "" || net.ParseIP(host).IsUnspecified())
}

// alive decides whom to believe.
type alive struct{ g *Gossip }

// NotifyAlive refuses a member with an error.
func (a alive) NotifyAlive(n *memberlist.Node) error {
	_, err := a.g.instanceOf(n.Name, n.Addr, n.Meta)
	if err != nil && a.g.refused.isNew(n.Name) {
		a.g.config.Logger.Warn("a member of the registry is ignored", "node", n.Name, "gossip", n.Address(), "error", err)
	}
	return err
}

// maxRefusals bounds what is remembered of members that were refused.
const maxRefusals = 256

// refusals remembers who was refused, so that each is warned of once. Beyond
// maxRefusals names nobody is warned of any more: names are for anybody to make up.
type refusals struct {
	mu    sync.Mutex
	names map[string]bool
}

func (r *refusals) isNew(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names[name] || len(r.names) >= maxRefusals {
		return false
	}
	if r.names == nil {
		r.names = map[string]bool{}
	}
	r.names[name] = true
	return true
}

// events keeps the table. memberlist calls it one at a time, under its own lock.
type events struct{ g *Gossip }

// NotifyJoin takes a member in.
func (e events) NotifyJoin(n *memberlist.Node) { e.NotifyUpdate(n) }

// NotifyUpdate takes over what a member newly says.
func (e events) NotifyUpdate(n *memberlist.Node) {
	i, err := e.g.instanceOf(n.Name, n.Addr, n.Meta)
	if err != nil {
		return // alive has refused it already
	}
	e.g.heard(n.Name, n.Address())
	if e.g.table.put(i) {
		e.g.changed(Change{Instance: i, Up: true})
	}
}

// NotifyLeave takes a member out that left or is dead.
func (e events) NotifyLeave(n *memberlist.Node) {
	e.g.heard(n.Name, "")
	service, id, _ := strings.Cut(n.Name, "/")
	if i, had := e.g.table.remove(service, id); had {
		e.g.changed(Change{Instance: i})
	}
}

func (g *Gossip) changed(c Change) {
	g.config.Logger.Info("instance changed", "member", c.Instance.Service, "id", c.Instance.ID,
		"addr", c.Instance.Addr, "up", c.Up)
	if g.config.OnChange != nil {
		g.config.OnChange(c)
	}
}

// meta is the part of memberlist's delegate that this package needs.
type meta struct{ g *Gossip }

// NodeMeta is what this process says of itself. NewGossip has checked it.
func (m meta) NodeMeta(limit int) []byte {
	b, err := m.g.encodeMeta()
	if err == nil && len(b) > limit {
		err = errors.New("metadata over the limit")
	}
	if err != nil {
		m.g.config.Logger.Error("registered without metadata; nobody will believe it", "error", err)
		return nil
	}
	return b
}

// NotifyMsg drops messages: this package sends none.
func (meta) NotifyMsg([]byte) {}

// GetBroadcasts has nothing to add to the gossip.
func (meta) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState has nothing to add to a full exchange.
func (meta) LocalState(bool) []byte { return nil }

// MergeRemoteState drops what others add to a full exchange.
func (meta) MergeRemoteState([]byte, bool) {}

// logWriter hands memberlist's lines to the logger, at debug: what matters of
// them shows up as a change or as a seed that does not answer.
type logWriter struct{ logger *slog.Logger }

// Write takes one line.
func (w logWriter) Write(b []byte) (int, error) {
	w.logger.Log(context.Background(), slog.LevelDebug, "gossip", "line", strings.TrimSpace(string(b)))
	return len(b), nil
}
