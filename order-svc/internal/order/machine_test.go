package order

import (
	"testing"

	"pavane/proof/search"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/fault"
)

// TestMachine_File_SaysWhatTheCodeDoes writes down what the transitions make of
// every fact in every state they lead to. proof/search relies on the file.
func TestMachine_File_SaysWhatTheCodeDoes(t *testing.T) {
	t.Parallel()
	facts := transitions()
	c := search.Code[Order]{
		Service: "order-svc",
		Facts:   []string{search.Place, search.Cancel, search.Deadline},
		Name: func(o Order) string {
			e := o.Effects
			return search.OrderState(string(o.State), string(o.Reason), e.Captured, e.Voided, e.Shipped, e.Released)
		},
		Start: Order{State: unknown},
		Take:  func(o Order, fact string, _ bool) (Order, search.Outcome) { return taken(o, fact, facts[fact]) },
	}
	for _, e := range contract.All() {
		if _, ok := facts[e.Kind()]; ok {
			c.Facts = append(c.Facts, e.Kind())
		}
	}
	m, err := search.Explore(c)
	if err != nil {
		t.Fatal(err)
	}
	search.RequireFile(t, m)
}

// transitions are all facts that the service hears, with what it does about
// them. The walks in saga_walk_test.go of the service hold the real reactions
// against the file.
func transitions() map[string]transition {
	in := inputs()
	return map[string]transition{
		search.Place: func(o Order) (Order, []event.Event, error) {
			if o.State != unknown {
				return o, nil, nil // the idempotency key is taken: the answer is the order
			}
			return sample(Placed), sample(Placed).Place(), nil
		},
		search.Cancel:           in["customer"],
		search.Deadline:         in["deadline"],
		"payment.authorized.v1": in["authorized"],
		"payment.declined.v1":   in["declined"],
		"payment.captured.v1":   in["captured"],
		"payment.voided.v1":     in["voided"],
		"inventory.rejected.v1": in["rejected"],
		"inventory.shipped.v1":  in["shipped"],
		"inventory.released.v1": in["released"],
	}
}

// unknown is before the order is placed; there is no row.
const unknown State = "none"

// taken is [Service.change] without its SQL.
func taken(o Order, fact string, f transition) (Order, search.Outcome) {
	if o.State == unknown && fact != search.Place {
		return o, search.Outcome{Fault: fact != search.Cancel && fact != search.Deadline} // see Service.react
	}
	after, events, err := f(o)
	if err != nil {
		return o, search.Outcome{Fault: fault.ClassOf(err) == fault.ClassPermanent}
	}
	var out search.Outcome
	for _, e := range events {
		out.Emits += e.Kind()
	}
	return after, out
}
