package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"pavane/internal/await"
	"pavane/internal/demo"
)

const (
	straddlers   = 300 // sagas that run while versions are mixed
	versionedAt  = 12  // orders under way at once
	upgradeLimit = 90 * time.Second
)

// rolled are the services in the order of their upgrade: the publisher of the new
// version first, so that all others meet it while they do not know it.
func rolled() []string {
	return []string{"order-svc", "payment-svc", "inventory-svc", "notification-svc"}
}

// tomorrow is the code of a later release: order.placed has a field more, and
// order.confirmed a new major version. Who reacts to it knows both.
func tomorrow(t testing.TB) map[string]string {
	t.Helper()
	edits := map[string][]string{
		"shared/contract/order.go": {
			"	PaymentMethod string `json:\"payment_method\"`", "	Channel string `json:\"channel\"`\n	PaymentMethod string `json:\"payment_method\"`",
			`func (OrderConfirmed) Kind() string { return "order.confirmed.v1" }`, `func (OrderConfirmed) Kind() string { return "order.confirmed.v2" }

// OrderConfirmedV1 is its form before.
type OrderConfirmedV1 OrderConfirmed

// Kind names the event on the wire.
func (OrderConfirmedV1) Kind() string { return "order.confirmed.v1" }

// Key is the order's id.
func (e OrderConfirmedV1) Key() string { return e.OrderID }`,
		},
	}
	for file, handler := range map[string]string{
		"payment-svc/saga.go":      "s.Capture",
		"inventory-svc/saga.go":    "s.Ship",
		"notification-svc/saga.go": "s.Confirmed",
	} {
		emits := map[string]string{"s.Capture": ", contract.PaymentCaptured{}", "s.Ship": ", contract.InventoryShipped{}"}[handler]
		edits[file] = []string{
			"import (", "import (\n	\"context\"\n\n	\"github.com/jmoiron/sqlx\"\n\n	\"pavane/shared/event\"",
			"return []react.Reaction{", fmt.Sprintf(`return []react.Reaction{
		react.On[contract.OrderConfirmedV1](func(ctx context.Context, tx *sqlx.Tx, e contract.OrderConfirmedV1) ([]event.Numbered, error) {
			return %s(ctx, tx, contract.OrderConfirmed(e))
		}%s),`, handler, emits),
		}
	}
	changed := map[string]string{}
	for file, pairs := range edits {
		b, err := os.ReadFile(filepath.Join("..", file))
		must(t, err)
		source := string(b)
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(source, pairs[i]) {
				t.Fatalf("the change does not fit %s any more: %q", file, pairs[i])
			}
			source = strings.Replace(source, pairs[i], pairs[i+1], 1)
		}
		changed[file] = source
	}
	return changed
}

// later builds the services as they will be into a directory.
func later(t testing.TB) string {
	t.Helper()
	work := freshDir(t)
	replace := map[string]string{}
	for file, source := range tomorrow(t) {
		original, err := filepath.Abs(filepath.Join("..", file))
		must(t, err)
		replace[original] = filepath.Join(work, strings.ReplaceAll(file, "/", "-"))
		must(t, os.WriteFile(replace[original], []byte(source), 0o600))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(work, "overlay.json"), overlay, 0o600))
	args := []string{"-overlay", filepath.Join(work, "overlay.json")}
	for _, name := range rolled() {
		args = append(args, "./"+name)
	}
	bin := filepath.Join(work, "bin")
	must(t, os.Mkdir(bin, 0o755))
	must(t, goBuild(bin+string(filepath.Separator), args...))
	return bin
}

// ownBinaries copies the binaries, so that a test can replace some.
func ownBinaries(t testing.TB) string {
	t.Helper()
	dir := freshDir(t)
	for _, name := range append(services(), "pavane") {
		b, err := os.ReadFile(filepath.Join(binaries(t), name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o755))
	}
	return dir
}

// upgrade has `pavane up` run another binary of a service from now on, as a
// rollout does: the old process ends when it has finished.
func (u *up) upgrade(service, bin string) {
	u.t.Helper()
	must(u.t, os.Rename(filepath.Join(bin, service), filepath.Join(u.Bin, service)))
	old := u.State().Services[service].Pid
	must(u.t, syscall.Kill(old, syscall.SIGTERM))
	await.True(u.t, stopLimit, service+" runs again", func() bool { return u.State().Services[service].Pid != old })
}

// count asks a service's database for a number.
func (u *up) count(database, query string) (n int) {
	u.t.Helper()
	read(u.t, u.database(database), func(ctx context.Context, tx *sqlx.Tx) error { return tx.GetContext(ctx, &n, query) })
	return n
}

// awaitVersions waits until nothing waits for a version, because all know it by
// now, and returns how many keys had to.
func (u *up) awaitVersions() (keys int) {
	u.t.Helper()
	for _, name := range databases()[1:] {
		await.True(u.t, upgradeLimit, "no key waits in "+name, func() bool { return u.count(name, `select count(*) from parked`) == 0 })
		keys += u.count(name, `select count(*) from parked_log where action = 'redrive'`)
	}
	return keys
}

// Old and new binaries run side by side while orders are placed, each service in
// turn: a field more is not noticed, and a new major version waits in those that
// do not know it until they are upgraded.
func TestVersions_MixedWhileOrdersArePlaced_EveryOrderEndsAndTheAuditIsClean(t *testing.T) {
	t.Parallel()
	next, old := later(t), ownBinaries(t)
	u := start(t, how{bin: old, env: []string{"PAVANE_ORDER_DEADLINE=10m"}})
	gw := u.gateway()
	var placed atomic.Int64
	var orders errgroup.Group
	orders.SetLimit(versionedAt)
	finished := make(chan error, 1)
	go func() {
		for i := range straddlers {
			orders.Go(func() error {
				return fateOf(i).live(gw, fmt.Sprintf("straddle-%d", i), func() { placed.Add(1) })
			})
		}
		finished <- orders.Wait()
	}()
	step := int64(straddlers / (2*len(rolled()) + 1))
	at := func(n int64) {
		await.True(t, upgradeLimit, fmt.Sprintf("%d orders are placed", n), func() bool { return placed.Load() >= n })
	}
	var beside []*demo.Child
	for i, service := range rolled() { // each version beside the other
		at(step * int64(i+1))
		cmd, _ := u.second(service, next)
		beside = append(beside, cmd)
		if service == "order-svc" {
			await.True(t, upgradeLimit, "an event of the new version waits in an old service", func() bool {
				return u.count("payments", `select count(*) from parked where cause = 'unknown_version'`) > 0
			})
		}
	}
	for i, service := range rolled() { // then the old one goes
		at(step * int64(len(rolled())+i+1))
		u.upgrade(service, next)
		must(t, beside[i].Process.Signal(syscall.SIGTERM))
	}
	must(t, <-finished)
	t.Logf("%d records waited for the upgrade of their reader", u.awaitVersions())
	u.audit()
	const confirmed = `select count(*) from outbox where type = 'order.confirmed.`
	v1, v2 := u.count("orders", confirmed+`v1'`), u.count("orders", confirmed+`v2'`)
	t.Logf("%d orders; %d were confirmed in the old version, %d in the new one", straddlers, v1, v2)
	if v1 == 0 || v2 == 0 {
		t.Error("only one version was published")
	}
}
