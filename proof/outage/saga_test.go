package outage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/internal/demo"
)

const (
	shoppers  = 4
	orderTick = 250 * time.Millisecond // of each shopper
)

// shop is the whole saga, all five services, on servers that the test hurts.
type shop struct {
	*demo.Demo
	gateway *demo.Gateway
	placed  atomic.Int64
	ended   atomic.Int64

	mu     sync.Mutex
	failed error // the first one of a shopper
}

// startShop starts `pavane up` on the servers and returns when it serves.
func startShop(t *testing.T, postgres, kafka string, env ...string) *shop {
	t.Helper()
	bin, err := demo.Build(t.TempDir())
	must(t, err)
	d := demo.Start(t, demo.Config{Bin: bin, Dir: t.TempDir(), Env: append(env, "PAVANE_SESSION="+session.String()), Args: []string{"--postgres", postgres, "--kafka", kafka}})
	return &shop{Demo: d, gateway: d.Gateway()}
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
					s.note(s.order(fmt.Sprintf("shopper-%d-%d", shopper, n), shopper+n))
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

// note keeps the first error.
func (s *shop) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
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
	id, err := s.gateway.Place(2*patience, key, demo.Body(customer, sku))
	if err != nil {
		return err
	}
	s.placed.Add(1)
	if _, err := s.gateway.Ended(2*patience, id); err != nil {
		return err
	}
	s.ended.Add(1)
	return nil
}

// The broker is killed and Postgres crashes, in turn, while orders are placed: all of them end as they should.
func TestSaga_ServersCrashUnderLoad_EveryOrderEndsAndTheAuditIsClean(t *testing.T) {
	n := needKafka(t, 6)
	k, p := startKafka(t, 1)[0], startPostgres(t)
	for _, name := range databases() {
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
	if s.failed != nil {
		t.Errorf("a shopper: %v", s.failed)
	}
	if s.placed.Load() != s.ended.Load() {
		t.Errorf("%d orders were placed, %d ended", s.placed.Load(), s.ended.Load())
	}
	say(t, n, "%d orders, all ended; %s", s.ended.Load(), s.Audit(10*time.Second))
}
