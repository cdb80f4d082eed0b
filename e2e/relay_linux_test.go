package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pavane/internal/await"
	"pavane/internal/demo"
)

// relay starts `pavane relay` with the environment of the service that runs.
func (u *up) relay(service string) *demo.Child {
	u.t.Helper()
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", u.State().Services[service].Pid))
	must(u.t, err)
	log, err := os.OpenFile(filepath.Join(u.Dir, "logs", service+"-relay.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(u.t, err)
	defer log.Close()
	cmd := exec.Command(filepath.Join(binaries(u.t), "pavane"), "relay", service)
	cmd.Env = append(strings.Split(strings.TrimRight(string(environ), "\x00"), "\x00"), "PAVANE_HTTP_ADDR=127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = log, log
	relay, err := demo.StartChild(cmd, syscall.SIGKILL)
	must(u.t, err)
	u.t.Cleanup(func() { u.t.Helper(); _ = relay.Process.Kill(); _ = relay.Wait() })
	return relay
}

// placing places orders one after the other until stop is called, which waits until all are decided.
func (u *up) placing(name string) (stop func() int) {
	gw, ended := u.gateway(), make(chan struct{})
	var wg sync.WaitGroup
	var ids []string
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-ended:
				return
			default:
			}
			id, err := gw.Place(startLimit, fmt.Sprintf("%s-%d", name, n), body(wealthy, "tea-green"))
			if err != nil {
				u.t.Error(err)
				return
			}
			ids = append(ids, id)
		}
	})
	return func() int {
		u.t.Helper()
		close(ended)
		wg.Wait()
		for _, id := range ids {
			_, err := gw.Ended(startLimit, id)
			must(u.t, err)
		}
		return len(ids)
	}
}

// TestRelay_BesideTheServicesOwn_EachKilledInTurn_EveryEventOnceInTheLog has two relays work on one outbox under load.
func TestRelay_BesideTheServicesOwn_EachKilledInTurn_EveryEventOnceInTheLog(t *testing.T) {
	t.Parallel()
	u := start(t, how{})
	relay := u.relay("order-svc")
	stop := u.placing("beside")
	for range 3 {
		u.published("orders", 20)
		must(t, relay.Process.Kill())
		_ = relay.Wait()
		u.published("orders", 20)
		relay = u.relay("order-svc")
		u.published("orders", 20)
		old := u.State().Services["order-svc"].Pid
		must(t, syscall.Kill(old, syscall.SIGKILL))
		await.True(t, startLimit, "order-svc runs again", func() bool { return u.State().Services["order-svc"].Pid != old })
	}
	t.Logf("%d orders", stop())
	u.audit()
}

// published waits until so many more events of a database are acknowledged.
func (u *up) published(database string, more int64) {
	u.t.Helper()
	const query = `select coalesce(sum(j.row_count), 0)::bigint from relay_journal j join relay_ack a on a.chunk = j.chunk`
	var before, now int64
	must(u.t, u.database(database).SQL().QueryRow(query).Scan(&before))
	await.True(u.t, startLimit, "events are published", func() bool {
		return u.database(database).SQL().QueryRow(query).Scan(&now) == nil && now >= before+more
	})
}

// TestRelay_InPlaceOfTheServicesOwn_PublishesAllAndStopsClean leaves all publishing to processes of their own, which
// the services' commits must wake.
func TestRelay_InPlaceOfTheServicesOwn_PublishesAllAndStopsClean(t *testing.T) {
	t.Parallel()
	u := start(t, how{args: []string{"--no-orders"}, env: []string{"PAVANE_RELAY=false"}})
	gw := u.gateway()
	id, err := gw.Place(startLimit, "alone", body(wealthy, "tea-green"))
	must(t, err)
	var relays []*demo.Child
	for _, service := range []string{"order-svc", "payment-svc", "inventory-svc"} {
		relays = append(relays, u.relay(service))
	}
	o, err := gw.Ended(startLimit, id)
	must(t, err)
	if o.State != "confirmed" {
		t.Errorf("the order is %s", o.End())
	}
	must(t, relays[0].Process.Kill())
	_ = relays[0].Wait()
	id, err = gw.Place(startLimit, "again", body(wealthy, "tea-green"))
	must(t, err)
	relays[0] = u.relay("order-svc")
	_, err = gw.Ended(startLimit, id)
	must(t, err)
	u.audit()
	for _, r := range relays {
		must(t, r.Process.Signal(syscall.SIGTERM))
		if err := r.Wait(); err != nil {
			t.Errorf("a relay that was asked to stop: %v", err)
		}
	}
}
