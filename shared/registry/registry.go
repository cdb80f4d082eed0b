// Package registry owns where the instances of a service are right now. Drivers
// answer that from gossip between the processes ([Gossip]), from the DNS of a
// Kubernetes cluster ([Kubernetes]) or from a fixed list ([Static]); [Picker]
// chooses one instance for one request.
//
// What a registry says is a hint: an instance it names may be gone, so callers
// still need timeouts and may retry what is safe to retry.
package registry

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Instance is one running process of a service.
type Instance struct {
	Service string    // its name, "order-svc"
	ID      string    // unlike that of every other instance of the service, also of earlier ones
	Addr    string    // host:port of its HTTP server
	Version string    // of the binary; may be empty
	Started time.Time // by the clock of the instance's machine; zero when unknown
}

// Registry finds instances.
type Registry interface {
	// Lookup returns the live instances of a service in the order of their ids;
	// none is an empty slice. The slice is the caller's.
	Lookup(service string) []Instance
}

// Change says that an instance came or went.
type Change struct {
	Instance Instance
	Up       bool // false: it left or is taken for dead
}

var (
	serviceForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	idForm      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:\[\]-]{0,127}$`)
	hostForm    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?$`)
	versionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`)
)

// checkAddr refuses what is not plainly host:port, such as a URL: an address
// from elsewhere must not be able to name a scheme, a user or a path.
func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q is not host:port", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("address %q has no port from 1 to 65535", addr)
	}
	if _, err := netip.ParseAddr(host); err != nil && !hostForm.MatchString(host) {
		return fmt.Errorf("address %q has neither an IP nor a host name before its port", addr)
	}
	return nil
}

// checkNetwork refuses an IP outside of the networks; none allow any. A name is
// for its dialler to check, who alone knows what it resolves to then.
func checkNetwork(networks []netip.Prefix, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q is not host:port", addr)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || len(networks) == 0 {
		return nil
	}
	for _, n := range networks {
		if n.Contains(ip.Unmap().WithZone("")) {
			return nil
		}
	}
	return fmt.Errorf("address %q is outside of the allowed networks %v", addr, networks)
}

func checkService(name string) error {
	if !serviceForm.MatchString(name) {
		return fmt.Errorf("service name %q is not of lower-case letters, digits and dashes, 63 at most", name)
	}
	return nil
}

// table holds instances by service and id. It is safe for concurrent use.
type table struct {
	mu        sync.RWMutex
	instances map[string]map[string]Instance
}

func newTable() *table { return &table{instances: map[string]map[string]Instance{}} }

// put adds or replaces an instance and says whether that changed anything.
func (t *table) put(i Instance) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := t.instances[i.Service]
	if ids == nil {
		ids = map[string]Instance{}
		t.instances[i.Service] = ids
	}
	old, had := ids[i.ID]
	ids[i.ID] = i
	return !had || old != i
}

// remove takes an instance out and returns what it was.
func (t *table) remove(service, id string) (Instance, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, had := t.instances[service][id]
	delete(t.instances[service], id)
	if len(t.instances[service]) == 0 {
		delete(t.instances, service)
	}
	return i, had
}

func (t *table) lookup(service string) []Instance {
	t.mu.RLock()
	defer t.mu.RUnlock()
	found := make([]Instance, 0, len(t.instances[service]))
	for _, i := range t.instances[service] {
		found = append(found, i)
	}
	slices.SortFunc(found, func(a, b Instance) int { return strings.Compare(a.ID, b.ID) })
	return found
}

// Static is a registry that never changes.
type Static struct{ table *table }

// ParseStatic reads a list of the form
// "order-svc=127.0.0.1:8081,127.0.0.1:8082;payment-svc=10.0.0.7:8080". An
// instance's id is its address.
func ParseStatic(spec string) (*Static, error) {
	t := newTable()
	for entry := range strings.SplitSeq(spec, ";") {
		if strings.TrimSpace(entry) == "" {
			continue
		}
		service, addrs, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if !ok {
			return nil, fmt.Errorf("registry: %q is not service=host:port,host:port: mend the list", entry)
		}
		if err := checkService(service); err != nil {
			return nil, fmt.Errorf("registry: in %q: %w", entry, err)
		}
		for addr := range strings.SplitSeq(addrs, ",") {
			addr = strings.TrimSpace(addr)
			if err := checkAddr(addr); err != nil {
				return nil, fmt.Errorf("registry: in %q: %w", entry, err)
			}
			t.put(Instance{Service: service, ID: addr, Addr: addr})
		}
	}
	return &Static{table: t}, nil
}

// Lookup returns the listed instances.
func (s *Static) Lookup(service string) []Instance { return s.table.lookup(service) }
