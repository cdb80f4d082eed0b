package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"pavane/internal/await"
)

const (
	crashOrders  = 100
	crashWorkers = 8
	crashSeed    = 20
	orderLimit   = 90 * time.Second // for one order, with any service dead at any time
)

// fate is what happens to one order, and how it may end.
type fate struct {
	name, body string
	cancel     bool
	ends       []string
}

// fateOf deals out the fates: of ten orders one is for something out of stock,
// one for an empty wallet, two are cancelled.
func fateOf(i int) fate {
	switch i % 10 {
	case 3:
		return fate{name: "out of stock", body: body(wealthy, soldOut), ends: []string{"cancelled out_of_stock"}}
	case 5:
		return fate{name: "declined", body: body(poor, "tea-green"), ends: []string{"cancelled payment_declined"}}
	case 7, 9:
		return fate{name: "cancelled", body: body("cust-02", "honey"), cancel: true, ends: []string{"cancelled customer", "confirmed"}}
	}
	return fate{name: "ordinary", body: body(fmt.Sprintf("cust-%02d", 3+i%10), "mug-red"), ends: []string{"confirmed"}}
}

// live takes an order to its end.
func (f fate) live(gw gateway, key string, placed func()) error {
	id, err := gw.Place(orderLimit, key, f.body)
	if err != nil {
		return err
	}
	placed()
	if f.cancel {
		a, err := gw.Insist(orderLimit, http.MethodPost, "/v1/orders/"+id+"/cancel", "")
		if err != nil {
			return err
		}
		if a.Status != http.StatusOK && a.Status != http.StatusConflict {
			return fmt.Errorf("cancel order %s: %s", id, a)
		}
	}
	o, err := gw.Ended(orderLimit, id)
	if err != nil {
		return err
	}
	if !slices.Contains(f.ends, o.End()) {
		return fmt.Errorf("order %s (%s) is %q, want one of %q", id, f.name, o.End(), f.ends)
	}
	return nil
}

// Each service is killed once, at a moment that the seed decides, while orders
// are placed. All of them end as they should.
func TestServices_KilledInTurnDuring100Orders_EveryOrderEndsAndTheAuditIsClean(t *testing.T) {
	t.Parallel()
	u := start(t, how{})
	gw := u.gateway()
	var next, placed atomic.Int64
	var work errgroup.Group
	for range crashWorkers {
		work.Go(func() error {
			for i := next.Add(1); i <= crashOrders; i = next.Add(1) {
				err := fateOf(int(i)).live(gw, fmt.Sprintf("crash-%d", i), func() { placed.Add(1) })
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	rng := rand.New(rand.NewPCG(crashSeed, 0))
	victims := services()
	rng.Shuffle(len(victims), func(i, k int) { victims[i], victims[k] = victims[k], victims[i] })
	share := int64(crashOrders / len(victims))
	for i, victim := range victims {
		at := int64(i)*share + 1 + rng.Int64N(share-crashWorkers)
		await.True(t, orderLimit, fmt.Sprintf("%d orders are placed", at), func() bool { return placed.Load() >= at })
		<-time.After(time.Duration(rng.IntN(50)) * time.Millisecond) // a moment within the sagas under way
		t.Logf("%s is killed after %d orders", victim, placed.Load())
		u.Kill(victim)
	}
	must(t, work.Wait())
	u.audit()
}
