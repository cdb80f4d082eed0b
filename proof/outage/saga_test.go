package outage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pavane/internal/await"
)

const (
	shoppers  = 4
	orderTick = 250 * time.Millisecond // of each shopper
)

// shop is the whole saga, all five services, on servers that the test hurts.
type shop struct {
	t      *testing.T
	bin    string
	dir    string
	base   string // of the gateway
	placed atomic.Int64
	ended  atomic.Int64
	failed atomic.Value // the first error of a shopper
}

// startShop starts `pavane up` on the servers and returns when it serves.
func startShop(t *testing.T, postgres, kafka string) *shop {
	t.Helper()
	s := &shop{t: t, bin: binaries(t), dir: t.TempDir()}
	cmd := exec.Command(filepath.Join(s.bin, "pavane"), "up", "--no-open", "--port", "0", "--dir", s.dir, "--postgres", postgres, "--kafka", kafka)
	log, err := os.Create(filepath.Join(s.dir, "up.log"))
	must(t, err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGINT) //nolint:errcheck // it may have ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("pavane up: %v", err)
		}
		if t.Failed() {
			t.Logf("pavane up:\n%s", tail(log.Name()))
		}
	})
	await.True(t, 2*patience, "`pavane up` serves", func() bool {
		b, err := os.ReadFile(log.Name())
		return err == nil && bytes.Contains(b, []byte("page: "))
	})
	var state struct{ Gateway string }
	b, err := os.ReadFile(filepath.Join(s.dir, "state.json"))
	must(t, err)
	must(t, json.Unmarshal(b, &state))
	s.base = state.Gateway
	return s
}

// binaries returns the directory with pavane and the services: that of PAVANE_BIN, else a fresh build.
func binaries(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("PAVANE_BIN"); dir != "" {
		abs, err := filepath.Abs(dir)
		must(t, err)
		return abs
	}
	dir := t.TempDir()
	args := []string{"build", "-o", dir + "/", "./cmd/pavane"}
	for _, name := range []string{"order", "payment", "inventory", "notification", "gateway"} {
		args = append(args, "./"+name+"-svc")
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

// shopping has orders placed until stop is called, which returns when all of them have ended.
func (s *shop) shopping() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for shopper := range shoppers {
		wg.Go(func() {
			tick := time.NewTicker(orderTick)
			defer tick.Stop()
			var orders sync.WaitGroup
			defer orders.Wait()
			for n := 0; ctx.Err() == nil; n++ {
				orders.Go(func() {
					if err := s.order(fmt.Sprintf("shopper-%d-%d", shopper, n), shopper+n); err != nil {
						s.failed.CompareAndSwap(nil, err)
					}
				})
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// order places one order, whatever it takes, and waits for its end. Some have no stock, some no money.
func (s *shop) order(key string, n int) error {
	customer, sku := fmt.Sprintf("cust-%02d", 2+n%10), "mug-red"
	switch n % 10 {
	case 3:
		sku = "gift-card" // there is none
	case 5:
		customer = "cust-20" // has an empty wallet
	}
	body := fmt.Sprintf(`{"customer_id":%q,"items":[{"sku":%q,"quantity":1}]}`, customer, sku)
	deadline := time.Now().Add(2 * patience)
	var location string
	for location == "" {
		if time.Now().After(deadline) {
			return fmt.Errorf("order %s was not placed", key)
		}
		if res, err := s.call(http.MethodPost, "/v1/orders", body, key); err == nil {
			location = res.location
		}
	}
	s.placed.Add(1)
	for {
		if res, err := s.call(http.MethodGet, "/v1/orders/"+path.Base(location), "", ""); err == nil && res.state != "" && res.state != "placed" {
			s.ended.Add(1)
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("order %s did not end", path.Base(location))
		}
		<-time.After(100 * time.Millisecond)
	}
}

// told is what the gateway says of an order.
type told struct{ location, state string }

// call asks the gateway once, and gives it a moment to recover before the next question when that fails.
func (s *shop) call(method, route, body, key string) (told, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.base+route, strings.NewReader(body))
	if err != nil {
		return told{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode >= http.StatusInternalServerError {
		if err == nil {
			_ = res.Body.Close()
			err = fmt.Errorf("%s", res.Status)
		}
		<-time.After(100 * time.Millisecond)
		return told{}, err
	}
	defer res.Body.Close()
	var order struct{ State string }
	if err := json.NewDecoder(res.Body).Decode(&order); err != nil {
		return told{}, err
	}
	return told{res.Header.Get("Location"), order.State}, nil
}

// The broker is killed and Postgres crashes, in turn, while orders are placed: all of them end as they should.
func TestSaga_ServersCrashUnderLoad_EveryOrderEndsAndTheAuditIsClean(t *testing.T) {
	n := needKafka(t, 6)
	k, p := startKafka(t, 1)[0], startPostgres(t)
	for _, name := range []string{"orders", "payments", "inventory", "notifications"} {
		must(t, p.CreateDatabase(t.Context(), name))
	}
	s := startShop(t, p.URL("postgres"), k.Addr())
	rng := rand.New(rand.NewPCG(6, 0))
	stop := s.shopping()
	for i := range n {
		<-moment(rng)
		before, begin := s.ended.Load(), time.Now()
		how := [...]string{"kill -9 of the broker", "kill -9 of Postgres", "kill -9 of the broker", "immediate stop of Postgres"}[i%4]
		switch i % 4 {
		case 1:
			p.Kill()
			must(t, p.Restart(t.Context()))
		case 3:
			must(t, p.StopImmediate(t.Context()))
			must(t, p.Restart(t.Context()))
		default:
			k.Kill()
			restart(t, k)
		}
		up := time.Since(begin)
		// Orders that were placed before the fault may end late in it; those of the next moments count.
		next := s.placed.Load() + shoppers
		await.True(t, 2*patience, "orders end again", func() bool { return s.ended.Load() >= next })
		say(t, i+1, "%s after %d orders; up after %.1f s, orders end again %.1f s later", how, before, up.Seconds(), (time.Since(begin) - up).Seconds())
	}
	stop()
	if err := s.failed.Load(); err != nil {
		t.Errorf("a shopper: %v", err)
	}
	if s.placed.Load() != s.ended.Load() {
		t.Errorf("%d orders were placed, %d ended", s.placed.Load(), s.ended.Load())
	}
	out, err := exec.Command(filepath.Join(s.bin, "pavane"), "audit", "--dir", s.dir, "--settle", "10s").CombinedOutput()
	if err != nil {
		t.Errorf("pavane audit: %v\n%s", err, out)
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	say(t, n, "%d orders, all ended; %s", s.ended.Load(), lines[len(lines)-1])
}
