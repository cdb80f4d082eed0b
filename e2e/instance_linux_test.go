package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/internal/demo"
)

// member is an instance as the gateway knows it.
type member struct{ Service, ID, Addr string }

func (g gateway) members(t testing.TB, service string) (found []member) {
	t.Helper()
	a, err := g.Insist(stopLimit, http.MethodGet, "/v1/members", "")
	must(t, err)
	var list struct{ Members []member }
	must(t, json.Unmarshal([]byte(a.Body), &list))
	for _, m := range list.Members {
		if m.Service == service {
			found = append(found, m)
		}
	}
	return found
}

// second starts another instance of a service from the binaries in bin, with the environment of the one
// that runs, but for the port on which that one gossips and for env, and returns it as soon as
// the gateway knows it.
func (u *up) second(service, bin string, env ...string) (*demo.Child, member) {
	u.t.Helper()
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", u.State().Services[service].Pid))
	must(u.t, err)
	log, err := os.OpenFile(filepath.Join(u.Dir, "logs", service+".log"), os.O_APPEND|os.O_WRONLY, 0)
	must(u.t, err)
	defer log.Close()
	gw := u.gateway()
	known := map[string]bool{}
	for _, m := range gw.members(u.t, service) {
		known[m.ID] = true
	}
	cmd := exec.Command(filepath.Join(bin, service))
	cmd.Env = append(strings.Split(strings.TrimRight(string(environ), "\x00"), "\x00"), append(env, "PAVANE_REGISTRY_BIND=127.0.0.1:0")...)
	cmd.Stdout, cmd.Stderr = log, log
	child, err := demo.StartChild(cmd, syscall.SIGKILL)
	must(u.t, err)
	u.t.Cleanup(func() { child.Stop() }) //nolint:errcheck // how it ended does not matter here
	begin := time.Now()
	var fresh member
	await.True(u.t, stopLimit, "the gateway knows the second "+service, func() bool {
		for _, m := range gw.members(u.t, service) {
			if !known[m.ID] {
				fresh = m
			}
		}
		return fresh.Addr != ""
	})
	u.t.Logf("the gateway knew the second %s after %s", service, time.Since(begin).Round(time.Millisecond))
	return child, fresh
}

// served tells whether an instance has answered requests on a route.
func served(addr, route string) bool {
	a, err := (&demo.Gateway{Base: "http://" + addr, HTTP: http.DefaultClient}).Do(http.MethodGet, "/metrics", "")
	return err == nil && strings.Contains(a.Body, `pavane_http_request_seconds_count{route="GET `+route+`",status="200"}`)
}

// asking asks the gateway again and again until stop is called, which returns
// how many answers there were and the first one that was not 200.
func asking(gw gateway, routes ...string) (stop func() (int, string)) {
	ended := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	count, wrong := 0, ""
	for _, route := range routes {
		wg.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				a, err := gw.Do(http.MethodGet, route, "")
				mu.Lock()
				count++
				if wrong == "" && (err != nil || a.Status != http.StatusOK || strings.Contains(a.Body, `"reason":`)) {
					wrong = fmt.Sprintf("answer %d: GET %s: %s %v", count, route, a, err)
				}
				mu.Unlock()
				<-time.After(2 * time.Millisecond)
			}
		})
	}
	return func() (int, string) {
		close(ended)
		wg.Wait()
		return count, wrong
	}
}

// testSecondInstance kills each of two instances in turn while the gateway is
// asked: nobody notices.
func testSecondInstance(t *testing.T, u *up, service, route, metric string) {
	gw := u.gateway()
	cmd, second := u.second(service, u.Bin)
	stop := asking(gw, route)
	await.True(t, stopLimit, "the gateway uses the second "+service, func() bool { return served(second.Addr, metric) })

	u.Kill(service) // the first; it comes back under another address
	await.True(t, stopLimit, "there are two instances again", func() bool {
		m := gw.members(t, service)
		return len(m) == 2 && (m[0].ID == second.ID || m[1].ID == second.ID) && served(m[0].Addr, metric) && served(m[1].Addr, metric)
	})
	must(t, cmd.Process.Kill())
	begin := time.Now()
	await.True(t, stopLimit, "the gateway no longer knows the killed "+service, func() bool { return len(gw.members(t, service)) == 1 })
	n, wrong := stop()
	t.Logf("the killed %s was forgotten after %s; %d answers", service, time.Since(begin).Round(time.Millisecond), n)
	if wrong != "" {
		t.Errorf("a safe request was not repeated on the other instance: %s", wrong)
	}
	if n < 20 {
		t.Errorf("only %d requests were made", n)
	}
	begin = time.Now()
	for i := range 2 * demoPartitions { // as good as surely on every partition
		gw.fulfil(t, orderLimit, fmt.Sprintf("second-%s-%d", service, i))
	}
	t.Logf("orders of all partitions went through %s after that", time.Since(begin).Round(time.Millisecond))
}

func TestSecondInstance(t *testing.T) {
	t.Parallel()
	inTurn(t,
		part{"OfOrderSvc_IsUsedAndEitherMayDieUnnoticed", func(t *testing.T, u *up) {
			o := u.gateway().fulfil(t, orderLimit, "to-be-asked-for")
			testSecondInstance(t, u, "order-svc", "/v1/orders/"+o.ID, "/v1/orders/{id}")
		}},
		part{"OfInventorySvc_IsUsedAndEitherMayDieUnnoticed", func(t *testing.T, u *up) {
			testSecondInstance(t, u, "inventory-svc", "/v1/products", "/v1/stock")
		}},
	)
}
