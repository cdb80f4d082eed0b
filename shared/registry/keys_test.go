package registry

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/memberlist"
)

func TestGossip_Encrypted_ShowsNobodyAnything(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string][][]byte{"without a key, for comparison": nil, "with a key": {bytes.Repeat([]byte{7}, 32)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tapped := func(service, addr, version string, seeds ...string) (*Gossip, *tap) {
				bind := freePort(t)
				p := newTap(t, bind)
				return watchful(t, GossipConfig{ // probes are most of the packets
					Service: service, ID: "id-of-" + service, HTTPAddr: addr, Version: version,
					Bind: bind, Advertise: p.addr, Join: seeds, Keys: keys,
				}), p
			}
			a, tapA := tapped("order-svc", "127.77.0.1:1111", "1.2.3-a")
			b, tapB := tapped("payment-svc", "127.77.0.2:2222", "1.2.3-b", a.Addr())
			within(t, "they see each other", func() bool {
				return len(a.Lookup("payment-svc")) == 1 && len(b.Lookup("order-svc")) == 1
			})
			// Both ways and both kinds: streams have passed if they know each other.
			before := len(tapA.heard()) + len(tapB.heard())
			within(t, "packets pass", func() bool { return len(tapA.heard())+len(tapB.heard()) > before+500 })

			all := append(tapA.heard(), tapB.heard()...)
			for _, secret := range []string{"order-svc", "payment-svc", "id-of-", "127.77.0.", "1.2.3-", "addr"} {
				if shown := bytes.Contains(all, []byte(secret)); shown == (keys != nil) {
					t.Errorf("%q in the clear among %d bytes: %v", secret, len(all), shown)
				}
			}
		})
	}
}

// roll is a set of three members whose keys change one member at a time.
type roll struct {
	mu      sync.Mutex
	stopped map[string]bool // ids that may be gone
	lost    []string        // ids that were gone though nobody stopped them
}

func (r *roll) changed(c Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !c.Up && !r.stopped[c.Instance.ID] {
		r.lost = append(r.lost, c.Instance.ID)
	}
}

func (r *roll) stop(t *testing.T, g *Gossip) {
	t.Helper()
	r.mu.Lock()
	r.stopped[g.config.ID] = true
	r.mu.Unlock()
	if err := g.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestGossip_KeysRotatedMemberByMember_LosesNoInstance(t *testing.T) {
	t.Parallel()
	before, after := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	r := &roll{stopped: map[string]bool{}}
	var members []*Gossip
	start := func(seeds []string, keys ...[]byte) *Gossip {
		return member(t, GossipConfig{Service: "order-svc", Keys: keys, Join: seeds, OnChange: r.changed})
	}
	addrs := func() []string {
		var all []string
		for _, g := range members {
			all = append(all, g.Addr())
		}
		return all
	}
	for range 3 {
		members = append(members, start(addrs(), before))
	}
	within(t, "all see three", see(members, "order-svc", 3))
	for _, keys := range [][][]byte{{before, after}, {after, before}, {after}} {
		for range 3 {
			r.stop(t, members[0])
			members = append(members[1:], start(addrs()[1:], keys...))
			within(t, "all see three again", see(members, "order-svc", 3))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lost) > 0 {
		t.Errorf("instances that ran were gone for somebody: %v", r.lost)
	}
	stranger := member(t, GossipConfig{Service: "order-svc", Keys: [][]byte{before}})
	if _, err := stranger.members.Load().Join(addrs()[:1]); err == nil {
		t.Error("the old key still opens the gossip")
	}
}

// pair makes a signing key and the text of its public key.
func pair(t *testing.T) (ed25519.PrivateKey, ed25519.PublicKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

// sign makes the metadata of a member that says m, with the proof of a key.
func sign(t *testing.T, key ed25519.PrivateKey, service, id string, m metadata) string {
	t.Helper()
	m.Proof = ed25519.Sign(key, m.claim(service, id))
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestGossip_MemberWithoutTheKeyOfItsName_NeverShowsUp(t *testing.T) {
	t.Parallel()
	order, orderPublic := pair(t)
	orderNext, orderNextPublic := pair(t)
	payment, paymentPublic := pair(t)
	gossipKey := [][]byte{bytes.Repeat([]byte{9}, 32)}
	services := map[string][]ed25519.PublicKey{"order-svc": {orderPublic, orderNextPublic}, "payment-svc": {paymentPublic}}
	var warnings atomic.Int32
	log := slog.New(slog.NewTextHandler(writerFunc(func(b []byte) {
		if strings.Contains(string(b), "ignored") && strings.Contains(string(b), "order-svc/impostor ") {
			warnings.Add(1)
		}
	}), &slog.HandlerOptions{Level: slog.LevelWarn}))
	honest := func(service string, key ed25519.PrivateKey, addr string, seeds ...string) *Gossip {
		return member(t, GossipConfig{
			Service: service, HTTPAddr: addr, Keys: gossipKey, Join: seeds, SigningKey: key, ServiceKeys: services, Logger: log,
		})
	}
	seed := honest("payment-svc", payment, "127.0.0.1:1")
	old := honest("order-svc", order, "127.0.0.1:2", seed.Addr())
	next := honest("order-svc", orderNext, "127.0.0.1:3", seed.Addr()) // while the key is exchanged
	all := []*Gossip{seed, old, next}
	within(t, "the honest see each other", see(all, "order-svc", 2))

	recorded := metadata{Addr: "127.0.0.1:66", Version: "1", Started: 1}
	theirs := sign(t, order, "order-svc", "dead", recorded) // what an honest instance once said
	elsewhere := strings.Replace(theirs, ":66", ":6666", 1)
	if elsewhere == theirs {
		t.Fatal("the recorded metadata is not what this test takes it for")
	}
	for name, text := range map[string]string{
		"order-svc/impostor":  sign(t, payment, "order-svc", "impostor", recorded), // the key of another service
		"order-svc/unsigned":  `{"addr":"127.0.0.1:66"}`,
		"order-svc/other-id":  theirs,
		"order-svc/dead":      elsewhere,
		"order-svc/younger":   strings.Replace(sign(t, order, "order-svc", "younger", recorded), `"started":1`, `"started":2`, 1),
		"order-svc/version":   strings.Replace(sign(t, order, "order-svc", "version", recorded), `"version":"1"`, `"version":"2"`, 1),
		"order-svc/anywhere":  sign(t, order, "order-svc", "anywhere", metadata{Addr: ":66"}),
		"inventory-svc/other": sign(t, order, "inventory-svc", "other", recorded), // a name without a key
	} {
		forgeMember(t, seed.Addr(), gossipKey[0], name, text)
	}
	// An honest one last: once it is known, all before it have been heard.
	last := honest("order-svc", order, "127.0.0.1:4", seed.Addr())
	all = append(all, last)
	within(t, "all see the honest", see(all, "order-svc", 3))
	for _, g := range all {
		for _, i := range g.Lookup("order-svc") {
			if strings.Contains(i.Addr, "66") {
				t.Errorf("an impostor is believed: %+v", i)
			}
		}
		if found := g.Lookup("inventory-svc"); len(found) > 0 {
			t.Errorf("believed: %v", found)
		}
		if n := g.members.Load().NumMembers(); n != 4 {
			t.Errorf("%d members, want the four honest ones", n)
		}
	}
	if n := warnings.Load(); n < 1 || n > 4 {
		t.Errorf("%d warnings of one impostor, want one of each member that met it", n)
	}
}

// forgeMember lets somebody with the gossip key say text under a name.
func forgeMember(t *testing.T, seed string, key []byte, name, text string) {
	t.Helper()
	c := memberlist.DefaultLocalConfig()
	c.Name, c.Label, c.BindAddr, c.BindPort, c.SecretKey = name, label, "127.0.0.1", 0, key
	c.Delegate, c.LogOutput = forger{text: text}, io.Discard
	m, err := memberlist.Create(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Shutdown() })
	if _, err := m.Join([]string{seed}); err != nil {
		t.Fatalf("%s cannot even speak: %v", name, err)
	}
}

func TestGossip_AddressOutsideTheNetworks_IsIgnored(t *testing.T) {
	t.Parallel()
	seed := member(t, GossipConfig{
		Service: "order-svc", HTTPAddr: "10.1.0.1:1",
		Networks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8")},
	})
	for id, addr := range map[string]string{"meta": "169.254.169.254:80", "mapped": "[::ffff:169.254.169.254]:80", "loop": "127.0.0.1:6060", "unsaid": ":80"} {
		member(t, GossipConfig{Service: "payment-svc", ID: id, HTTPAddr: addr, Join: []string{seed.Addr()}})
	}
	want := map[string]string{"a": "10.1.2.3:80", "b": "[fd00::1]:80", "c": "payment.example:80", "d": "[::ffff:10.1.2.4]:80"}
	for id, addr := range want {
		member(t, GossipConfig{Service: "payment-svc", ID: id, HTTPAddr: addr, Join: []string{seed.Addr()}})
	}
	within(t, "those inside are seen", func() bool { return len(seed.Lookup("payment-svc")) >= len(want) })
	for _, i := range seed.Lookup("payment-svc") {
		if want[i.ID] != i.Addr {
			t.Errorf("believed: %+v", i)
		}
	}
}

func TestNewGossip_WithoutTheKeyOfItsOwnName_IsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	mine, minePublic := pair(t)
	other, _ := pair(t)
	services := map[string][]ed25519.PublicKey{"order-svc": {minePublic}}
	networks := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for want, c := range map[string]GossipConfig{
		"no signature proves":         {Service: "order-svc", HTTPAddr: ":80", ServiceKeys: services},
		"by no key that may take":     {Service: "order-svc", HTTPAddr: ":80", ServiceKeys: services, SigningKey: other},
		"lets anybody take the name":  {Service: "payment-svc", HTTPAddr: ":80", ServiceKeys: services, SigningKey: mine},
		"names no host":               {Service: "order-svc", HTTPAddr: ":80", Bind: "0.0.0.0:0", ServiceKeys: services, SigningKey: mine},
		"outside of the allowed":      {Service: "order-svc", HTTPAddr: "127.0.0.1:80", Networks: networks},
		"is not <service>/<id>":       {Service: "order-svc", ID: "a\nb", HTTPAddr: ":80", ServiceKeys: services, SigningKey: mine},
		"metadata of 594 bytes is ov": {Service: "order-svc", HTTPAddr: strings.Repeat("a", 457) + ":80", ServiceKeys: services, SigningKey: mine},
	} {
		if _, err := NewGossip(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	for _, c := range []GossipConfig{
		{Service: "order-svc", HTTPAddr: ":80", ServiceKeys: services, SigningKey: mine},
		{Service: "order-svc", HTTPAddr: ":80", Bind: ":0", Advertise: "10.0.0.1:7946", ServiceKeys: services, SigningKey: mine, Networks: networks},
		{Service: "order-svc", HTTPAddr: strings.Repeat("a", 250) + ":80", Version: strings.Repeat("1", 64), ServiceKeys: services, SigningKey: mine},
	} {
		if _, err := NewGossip(c); err != nil {
			t.Errorf("refused: %v", err)
		}
	}
}

func TestParseKeys_TakesHexAndBase64_AndNeverShowsAKey(t *testing.T) {
	t.Parallel()
	texts := []string{strings.Repeat("ab", 32), strings.Repeat("ab", 16), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
	keys, err := ParseKeys(strings.Join(texts, ", "))
	if err != nil || len(keys) != 3 || len(keys[0]) != 32 || len(keys[1]) != 16 || len(keys[2]) != 32 {
		t.Errorf("got %d keys, %v", len(keys), err)
	}
	for _, text := range []string{"hunter2", texts[0] + ",hunter2", texts[0] + ","} {
		if _, err := ParseKeys(text); err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "abab") {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestParseSigningKey_TakesWhatOpenSSLWrites(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key.pem")
	private := output(t, "openssl", "genpkey", "-algorithm", "ed25519")
	key, err := ParseSigningKey(private)
	if err != nil {
		t.Fatal(err)
	}
	output(t, "openssl", "genpkey", "-algorithm", "ed25519", "-out", file)
	other := output(t, "openssl", "pkey", "-in", file, "-pubout")
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	services, err := ParseServiceKeys("order-svc=" + base64.StdEncoding.EncodeToString(der) + "," + strings.Split(other, "\n")[1] + ";")
	if err != nil || len(services["order-svc"]) != 2 || !services["order-svc"][0].Equal(key.Public()) {
		t.Errorf("got %v, %v", services, err)
	}
	block, _ := pem.Decode([]byte(private))
	if again, err := ParseSigningKey(base64.StdEncoding.EncodeToString(block.Bytes)); err != nil || !again.Equal(key) {
		t.Errorf("without the lines of PEM: %v", err)
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}

func TestParseServiceKeys_Wrong_IsRefusedWithoutShowingAPrivateKey(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{";", "order-svc", "Order=x", "order-svc=", "order-svc=AAAA"} {
		if _, err := ParseServiceKeys(spec); err == nil {
			t.Errorf("%q is taken", spec)
		}
	}
	private, _ := pair(t)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(der)
	if _, err := ParseServiceKeys("order-svc=" + text); err == nil || strings.Contains(err.Error(), text) {
		t.Errorf("a private key in place of a public one: %v", err)
	}
	if _, err := ParseSigningKey("hunter2"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}
