package registry

import (
	"net"
	"strings"
	"testing"
)

func FuzzParseStatic(f *testing.F) {
	f.Add("order-svc=127.0.0.1:8081,127.0.0.1:8082;payment-svc=10.0.0.7:8080")
	f.Add(" a = [::1]:1 ; ;b=:80")
	f.Fuzz(func(t *testing.T, spec string) {
		s, err := ParseStatic(spec)
		if err != nil {
			return
		}
		for service, instances := range s.table.instances {
			if err := checkService(service); err != nil {
				t.Fatal(err)
			}
			addrs := make([]string, 0, len(instances))
			for _, i := range s.Lookup(service) {
				if err := checkAddr(i.Addr); err != nil || i.Service != service {
					t.Fatalf("accepted: %+v, %v", i, err)
				}
				addrs = append(addrs, i.Addr)
			}
			again, err := ParseStatic(service + "=" + strings.Join(addrs, ","))
			if err != nil || len(again.Lookup(service)) != len(addrs) {
				t.Fatalf("%s does not survive being written again: %v", service, err)
			}
		}
	})
}

// FuzzMember takes what a member says of itself.
func FuzzMember(f *testing.F) {
	f.Add("order-svc/abc", []byte(`{"addr":"127.0.0.1:8081","version":"1.2.3","started":1700000000000}`))
	f.Add("order-svc/abc", []byte(`{"addr":":8081","started":-1}`))
	g := &Gossip{config: GossipConfig{Allowed: []string{"order-svc", "payment-svc"}}}
	f.Fuzz(func(t *testing.T, node string, meta []byte) {
		i, err := g.instanceOf(node, net.IPv4(127, 0, 0, 1), meta)
		if err != nil {
			return
		}
		if i.Service != "order-svc" && i.Service != "payment-svc" || node != i.Service+"/"+i.ID {
			t.Fatalf("%q comes in as %+v", node, i)
		}
		if err := checkAddr(i.Addr); err != nil {
			t.Fatalf("accepted: %v", err)
		}
		if host, _, err := net.SplitHostPort(i.Addr); err != nil || net.ParseIP(host).IsUnspecified() {
			t.Fatalf("nobody can be reached at %q", i.Addr)
		}
	})
}
