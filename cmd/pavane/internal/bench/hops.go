package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"pavane/cmd/pavane/internal/client"
	"pavane/shared/contract"
)

// Hop is one stretch of an order's way. The stretches of an order follow on each
// other without a gap, so that their times add up to its latency.
type Hop struct {
	Name string  `json:"name"`
	What string  `json:"what"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	Mean float64 `json:"mean_ms"` // means add up, medians do not
}

// readers is how many stories are read at once: little, the answers are scans.
const readers = 2

// mark is a moment on an order's way and the name of the stretch before it.
type mark struct {
	name, what string
	at         time.Time
}

// story is what the gateway tells of an order, as far as it is needed here.
type story struct {
	Events []storyEvent `json:"events"`
}

type storyEvent struct {
	Kind      string     `json:"kind"`
	CreatedAt time.Time  `json:"created_at"`
	PlannedAt *time.Time `json:"planned_at"`
	AckedAt   *time.Time `json:"acked_at"`
}

// hops reads from the services' tables when each step of the orders was taken.
// Load, services and databases share a clock when they share a machine; else
// the first and the last hop are off by the difference.
func hops(ctx context.Context, gateway string, shots []shot) ([]Hop, error) {
	c := client.New(gateway)
	ways := make([][]mark, len(shots))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for i, s := range shots {
		group.Go(func() (err error) {
			ways[i], err = way(ctx, c, s)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return merge(shots, ways), nil
}

func way(ctx context.Context, c *client.Client, s shot) ([]mark, error) {
	a, err := c.Do(ctx, http.MethodGet, "/v1/orders/"+s.id+"/story", nil)
	if err != nil {
		return nil, err
	}
	var st story
	if err := json.Unmarshal(a.Body, &st); err != nil || a.Status != http.StatusOK {
		return nil, fmt.Errorf("story of order %s: %s", s.id, a.Text())
	}
	return st.marks(s)
}

// steps are the events between the order and its confirmation.
func steps() []struct{ kind, name string } {
	return []struct{ kind, name string }{
		{contract.OrderPlaced{}.Kind(), "placed"},
		{contract.InventoryReserved{}.Kind(), "reserved"},
		{contract.PaymentAuthorized{}.Kind(), "authorized"},
		{contract.OrderConfirmed{}.Kind(), "confirmed"},
	}
}

// marks puts the moments of an order in a row. A reader may have an event before
// the relay has noted that it is in the log; then that moment is the reader's.
func (st story) marks(s shot) ([]mark, error) {
	way := make([]mark, 0, 12)
	for i, step := range steps() {
		at := slices.IndexFunc(st.Events, func(e storyEvent) bool { return e.Kind == step.kind })
		if at < 0 {
			return nil, fmt.Errorf("order %s: its story has no %s", s.id, step.kind)
		}
		e := st.Events[at]
		what := "fetch, queue and the handler's transaction up to the event's row"
		if i == 0 {
			what = "request to gateway and order-svc, up to the event's row"
		}
		way = append(way, mark{step.name + " written", what, e.CreatedAt})
		if i == len(steps())-1 {
			break
		}
		if e.PlannedAt == nil || e.AckedAt == nil {
			return nil, fmt.Errorf("order %s: %s is not in the log", s.id, step.kind)
		}
		way = append(way,
			mark{step.name + " planned", "commit, and the relay has read it", *e.PlannedAt},
			mark{step.name + " in log", "the plan's commit, the broker's answer and its note", *e.AckedAt})
	}
	way = append(way, mark{"answer", "commit, and order-svc and gateway answer", s.answered})
	for i := len(way) - 2; i >= 0; i-- {
		if way[i].at.After(way[i+1].at) {
			way[i].at = way[i+1].at
		}
	}
	return way, nil
}

// merge puts the ways side by side.
func merge(shots []shot, ways [][]mark) []Hop {
	if len(ways) == 0 {
		return nil
	}
	var all []Hop
	for i, m := range ways[0] {
		took := make([]time.Duration, len(ways))
		var sum time.Duration
		for j, w := range ways {
			before := shots[j].due
			if i > 0 {
				before = w[i-1].at
			}
			took[j] = w[i].at.Sub(before)
			sum += took[j]
		}
		s := spread(took)
		all = append(all, Hop{Name: m.name, What: m.what, P50: s.P50, P99: s.P99, Mean: ms(sum / time.Duration(len(ways)))})
	}
	return all
}
