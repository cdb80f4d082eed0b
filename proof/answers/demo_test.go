package answers_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pavane/internal/demo"
	"pavane/internal/devstack"
	"pavane/internal/faultproxy"
	"pavane/shared/brokertest"
)

// shop is `pavane up` with its five services, whose ways to Kafka and Postgres
// lead through proxies.
type shop struct {
	testing.TB
	kafka, postgres *faultproxy.Proxy
	brokers         []string // past the proxy
	database        string   // past the proxy
	namespace       string
	gateway         *demo.Gateway
}

// orderLimit bounds an order while the connections of five services break.
const orderLimit = 150 * time.Second

func startShop(t *testing.T) *shop {
	t.Helper()
	d := &shop{TB: t, namespace: "answers-" + strings.ToLower(rand.Text()[:8]) + "."}
	bin, err := demo.Build(t.TempDir())
	must(t, err)
	server, err := devstack.StartPostgres(t.Context(), devstack.PostgresConfig{NoSync: true})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), demo.StopLimit)
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
	up := demo.Start(t, demo.Config{Bin: bin, Dir: t.TempDir(), Args: []string{
		"--kafka", d.kafka.Addr(), "--postgres", u.String(), "--namespace", d.namespace,
	}})
	d.gateway = up.Gateway()
	return d
}

// order is how an order ends: "confirmed", or "cancelled out_of_stock".
func (d *shop) order(key, body string) (string, error) {
	id, err := d.gateway.Place(orderLimit, key, body)
	if err != nil {
		return "", err
	}
	o, err := d.gateway.Ended(orderLimit, id)
	return o.End(), err
}

// buyers place orders, at least so many, until stop is called; stop returns how
// they ended.
func (d *shop) buyers(n, least int) (stop func() map[string]int) {
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
	return demo.Body(customer, sku)
}
