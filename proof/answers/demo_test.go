package answers_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
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
	"pavane/internal/devstack"
	"pavane/internal/faultproxy"
	"pavane/shared/brokertest"
)

// demo is `pavane up` with its five services, whose ways to Kafka and Postgres
// lead through proxies.
type demo struct {
	testing.TB
	kafka, postgres  *faultproxy.Proxy
	brokers          []string // past the proxy
	database         string   // past the proxy
	namespace        string
	bin, dir, output string
	client           *http.Client
	gateway          string
}

const (
	startLimit = 90 * time.Second
	stopLimit  = 30 * time.Second
	// orderLimit bounds an order while the connections of five services break.
	orderLimit = 150 * time.Second
)

func startDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{
		TB: t, bin: binaries(t), namespace: "answers-" + strings.ToLower(rand.Text()[:8]) + ".",
		client: &http.Client{Timeout: 30 * time.Second},
	}
	t.Cleanup(d.client.CloseIdleConnections)
	d.dir = t.TempDir()
	d.output = filepath.Join(d.dir, "up.log")
	server, err := devstack.StartPostgres(t.Context(), devstack.PostgresConfig{NoSync: true})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
		defer cancel()
		must(t, server.Stop(ctx))
	})
	d.database = server.URL("postgres")
	d.brokers = strings.Split(brokertest.Start(t), ",")
	d.kafka = startProxy(t, faultproxy.Kafka, d.brokers[0])
	u, err := url.Parse(d.database)
	must(t, err)
	d.postgres = startProxy(t, faultproxy.Postgres, u.Host)
	u.Host = d.postgres.Addr()
	d.up("--kafka", d.kafka.Addr(), "--postgres", u.String(), "--namespace", d.namespace)
	return d
}

// binaries builds pavane and the services into a directory of the test, or takes
// those of PAVANE_BIN.
func binaries(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("PAVANE_BIN"); dir != "" {
		dir, err := filepath.Abs(dir)
		must(t, err)
		return dir
	}
	dir := t.TempDir()
	packages := []string{"build", "-o", dir + string(filepath.Separator), "./cmd/pavane"}
	for _, name := range []string{"order", "payment", "inventory", "notification", "gateway"} {
		packages = append(packages, "./"+name+"-svc")
	}
	cmd := exec.Command("go", packages...)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

// up runs `pavane up` until the test ends.
func (d *demo) up(args ...string) {
	d.Helper()
	cmd := exec.Command(filepath.Join(d.bin, "pavane"), append([]string{"up", "--no-open", "--port", "0", "--dir", d.dir}, args...)...)
	log, err := os.Create(d.output)
	must(d.TB, err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	must(d.TB, cmd.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	d.Cleanup(func() { d.down(cmd.Process, ended) })
	await.True(d.TB, startLimit, "`pavane up` is ready", func() bool {
		b, err := os.ReadFile(d.output)
		return err == nil && bytes.Contains(b, []byte("page: "))
	})
	var state struct{ Gateway string }
	b, err := os.ReadFile(filepath.Join(d.dir, "state.json"))
	must(d.TB, err)
	must(d.TB, json.Unmarshal(b, &state))
	d.gateway = state.Gateway
}

// down ends `pavane up`, and shows what it and the services said when the test
// failed.
func (d *demo) down(p *os.Process, ended chan struct{}) {
	_ = p.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-ended:
	case <-time.After(stopLimit):
		_ = p.Kill()
		d.Errorf("`pavane up` did not end within %s", stopLimit)
	}
	if !d.Failed() {
		return
	}
	logs, _ := filepath.Glob(filepath.Join(d.dir, "logs", "*.log"))
	for _, name := range append(logs, d.output) {
		b, _ := os.ReadFile(name)
		d.Logf("%s ends with:\n%s", filepath.Base(name), b[max(0, len(b)-3000):])
	}
}

// insist sends a request again until an answer that counts comes within the limit.
func (d *demo) insist(method, route, body string, headers ...string) (*http.Response, []byte, error) {
	retry := time.NewTicker(200 * time.Millisecond)
	defer retry.Stop()
	for begin := time.Now(); ; <-retry.C {
		res, b, err := d.do(method, route, body, headers...)
		if err == nil && res.StatusCode < 500 {
			return res, b, nil
		}
		if time.Since(begin) > orderLimit {
			return nil, nil, fmt.Errorf("%s %s: no answer within %s: %s %w", method, route, orderLimit, b, err)
		}
	}
}

func (d *demo) do(method, route, body string, headers ...string) (*http.Response, []byte, error) {
	req, err := http.NewRequest(method, d.gateway+route, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := d.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res, b, err
}

// order is how an order ends: "confirmed", or "cancelled out_of_stock".
func (d *demo) order(key, body string) (string, error) {
	res, b, err := d.insist(http.MethodPost, "/v1/orders", body, "Idempotency-Key", key)
	if err != nil {
		return "", err
	}
	if res.Header.Get("Location") == "" {
		return "", fmt.Errorf("place order %s: %d %s", key, res.StatusCode, b)
	}
	id := path.Base(res.Header.Get("Location"))
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for begin := time.Now(); ; <-poll.C {
		_, b, err := d.insist(http.MethodGet, "/v1/orders/"+id, "")
		if err != nil {
			return "", err
		}
		var o struct{ State, Reason string }
		if err := json.Unmarshal(b, &o); err != nil {
			return "", fmt.Errorf("order %s: %w: %s", id, err, b)
		}
		if o.State != "placed" {
			return strings.TrimSpace(o.State + " " + o.Reason), nil
		}
		if time.Since(begin) > orderLimit {
			return "", fmt.Errorf("order %s is still %s after %s", id, o.State, orderLimit)
		}
	}
}

// buyers place orders, at least so many, until stop is called; stop returns how
// they ended.
func (d *demo) buyers(n, least int) (stop func() map[string]int) {
	var mu sync.Mutex
	ends, enough := map[string]int{}, make(chan struct{})
	var work sync.WaitGroup
	var next atomic.Int64
	for range n {
		work.Go(func() {
			for i := int(next.Add(1)); ; i = int(next.Add(1)) {
				select {
				case <-enough:
					if i > least {
						return
					}
				case <-d.Context().Done():
					return
				default:
				}
				end, err := d.order(fmt.Sprintf("%s%d", d.namespace, i), purchase(i))
				if err != nil {
					d.Error(err)
					return
				}
				mu.Lock()
				ends[end]++
				mu.Unlock()
			}
		})
	}
	return sync.OnceValue(func() map[string]int {
		close(enough)
		work.Wait()
		return ends
	})
}

// purchase is an order: of eight one is for what is sold out, one for an empty
// wallet.
func purchase(i int) string {
	customer, sku := fmt.Sprintf("cust-%02d", 1+i%12), "tea-green"
	switch i % 8 {
	case 3:
		sku = "gift-card"
	case 6:
		customer = "cust-20"
	}
	return fmt.Sprintf(`{"customer_id":%q,"items":[{"sku":%q,"quantity":1}]}`, customer, sku)
}
