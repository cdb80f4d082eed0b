package registry

import (
	"strings"
	"sync"
	"testing"
)

// TestRegistry_EveryDriver_KeepsThePromisesOfLookup holds every driver to what
// the interface says, with two instances of order-svc and one of payment-svc.
func TestRegistry_EveryDriver_KeepsThePromisesOfLookup(t *testing.T) {
	t.Parallel()
	const first, second, other = "127.0.0.1:8080", "127.0.0.2:8080", "127.0.0.3:8080"
	for name, open := range map[string]func(t *testing.T) Registry{
		"static": func(t *testing.T) Registry {
			s, err := ParseStatic("order-svc=" + second + "," + first + ";payment-svc=" + other)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"gossip": func(t *testing.T) Registry {
			seed := member(t, GossipConfig{Service: "order-svc", ID: "2", HTTPAddr: second})
			member(t, GossipConfig{Service: "order-svc", ID: "1", HTTPAddr: first, Join: []string{seed.Addr()}})
			member(t, GossipConfig{Service: "payment-svc", ID: "1", HTTPAddr: other, Join: []string{seed.Addr()}})
			return seed
		},
		"kubernetes": func(t *testing.T) Registry {
			s := newNameServer(t)
			s.set("order-svc", strings.TrimSuffix(second, ":8080"), strings.TrimSuffix(first, ":8080"))
			s.set("payment-svc", strings.TrimSuffix(other, ":8080"))
			return kubernetes(t, s, KubernetesConfig{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t)
			within(t, "all are found", func() bool {
				return addrsOf(r, "order-svc") == first+" "+second && addrsOf(r, "payment-svc") == other
			})
			ids := map[string]bool{}
			for _, i := range r.Lookup("order-svc") {
				if i.Service != "order-svc" || i.ID == "" || ids[i.ID] {
					t.Errorf("%+v: want its service and an id of its own", i)
				}
				ids[i.ID] = true
			}
			if found := r.Lookup("inventory-svc"); found == nil || len(found) > 0 {
				t.Errorf("a service without instances: %#v, want an empty slice", found)
			}
			mine := r.Lookup("order-svc")
			mine[0], mine[1] = Instance{}, Instance{}
			if found := addrsOf(r, "order-svc"); found != first+" "+second {
				t.Errorf("the slice was not the caller's: now %q", found)
			}
			var many sync.WaitGroup
			for range 8 {
				many.Go(func() {
					for range 100 {
						if n := len(r.Lookup("order-svc")); n != 2 {
							t.Errorf("%d instances among many lookups, want 2", n)
							return
						}
					}
				})
			}
			many.Wait()
		})
	}
}
