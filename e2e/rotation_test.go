package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pavane/internal/await"
	"pavane/internal/demo"
)

// keyRing is a secret that is a list: the first is used, all are taken.
type keyRing struct {
	t         *testing.T
	files     []string
	old, next []string // by file
}

// write puts a list into each file, whose names are {old} and {next}.
func (r keyRing) write(list string) {
	r.t.Helper()
	for i, file := range r.files {
		text := strings.NewReplacer("{old}", r.old[i], "{next}", r.next[i]).Replace(list)
		must(r.t, os.WriteFile(file, []byte(text), 0o600))
	}
}

// The gossip key and the services' key are changed as docs/operations.md says,
// one service after the other, while orders are placed. Whatever mixture of old
// and new runs, every order ends; and the new keys are in force afterwards.
func TestRotation_KeysAreChangedServiceByService_OrdersGoOn(t *testing.T) {
	t.Parallel()
	dir := freshDir(t)
	gossip := filepath.Join(freshDir(t), "gossip-key")
	ring := keyRing{
		t: t, files: []string{gossip},
		old: []string{strings.Repeat("0a", 32)}, next: []string{strings.Repeat("1b", 32)},
	}
	ring.write("{old}")
	u := start(t, how{dir: dir, args: []string{"--no-orders"}, env: []string{"PAVANE_REGISTRY_KEY_FILE=" + gossip}})
	ring.files = append(ring.files, filepath.Join(dir, "secrets", "service-key"))
	ring.old, ring.next = append(ring.old, u.secret("service-key")), append(ring.next, strings.Repeat("next", 10))
	gw := u.gateway()
	place := func(what string) {
		t.Helper()
		o := gw.fulfil(t, startLimit, "rotation-"+what)
		t.Logf("%s: order %s", what, o.ID)
	}
	for n, list := range []string{"{old},{next}", "{next},{old}", "{next}"} {
		ring.write(list)
		for _, service := range demo.Services() {
			tool(t, u, "break", "restart", service)
			u.awaitReady()
			place(fmt.Sprintf("round-%d-%s", n+1, service))
		}
	}
	// A service with the keys of before is nobody's member.
	ring.write("{old}")
	u.Kill("payment-svc")
	await.True(t, startLimit, "the gateway knows no payment-svc", func() bool { return len(gw.members(t, "payment-svc")) == 0 })
	ring.write("{next}")
	u.Kill("payment-svc")
	u.awaitReady()
	place("at-the-end")
	u.audit()
}
