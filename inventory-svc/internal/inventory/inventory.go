// Package inventory owns the stock and what became of each order's items:
// reserved, rejected, shipped or released. Every change of stock is an entry of
// a ledger that the database itself keeps sound.
package inventory

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/fault"
)

// State is what became of an order's items.
type State string

// The states. Every one but StateReserved is final.
const (
	StateNew      State = "new"      // nothing is known of the order; never stored
	StateReserved State = "reserved" // the items are set aside
	StateRejected State = "rejected" // they could not be had; none is set aside
	StateShipped  State = "shipped"  // they left the stock
	StateReleased State = "released" // they were set aside and are available again
	StateRefused  State = "refused"  // the order was off before it was known: the tombstone
)

// Fact is something another service says about an order.
type Fact int

// The facts, each named after the event that tells it.
const (
	Placed    Fact = iota // order.placed
	Confirmed             // order.confirmed
	Declined              // payment.declined
	Cancelled             // order.cancelled
)

// String is the kind of event that tells the fact, for messages.
func (f Fact) String() string {
	return [...]string{"order.placed", "order.confirmed", "payment.declined", "order.cancelled"}[f]
}

// Step is what a fact asks of the stock.
type Step int

// The steps. Each of them but StepNone changes the state.
const (
	StepNone    Step = iota // the fact changes nothing
	StepReserve             // set the items aside, all or none
	StepShip                // send off what is set aside
	StepRelease             // give back what is set aside
	StepRefuse              // remember that the order is off, so that it is refused when it comes
)

// Item is an amount of one SKU.
type Item struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"` // from 1 on
}

// Reservation is what became of one order's items.
type Reservation struct {
	OrderID   string
	State     State
	Items     []Item // sorted by SKU, each SKU once; empty for a tombstone
	Reason    string // for people: why it was rejected or refused
	Version   int64  // events published about the order
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Next tells what a fact asks for. A fact that cannot follow on the state, such
// as a confirmation of what was never reserved, is a permanent fault: a record
// is missing, or a database was set back.
func (r *Reservation) Next(f Fact) (Step, error) {
	off := f == Declined || f == Cancelled
	switch {
	case r.State == StateNew && f == Placed:
		return StepReserve, nil
	case r.State == StateNew && off:
		return StepRefuse, nil
	case r.State == StateReserved && f == Confirmed:
		return StepShip, nil
	case r.State == StateReserved && off:
		return StepRelease, nil
	case f == Confirmed && r.State != StateShipped, off && r.State == StateShipped:
		return StepNone, fault.Permanent("%s for order %s, whose items are in state %q: a record before it is missing", f, r.OrderID, r.State)
	default:
		return StepNone, nil
	}
}

// done notes that a step was taken and returns the event that tells of it; a
// shortage turns a reservation into a rejection. A tombstone tells nothing.
func (r *Reservation) done(step Step, shortage string) []event.Numbered {
	var told event.Event
	switch step {
	case StepReserve:
		r.State, told = StateReserved, contract.InventoryReserved{OrderID: r.OrderID}
		if shortage != "" {
			r.State, r.Reason, told = StateRejected, shortage, contract.InventoryRejected{OrderID: r.OrderID, Reason: shortage}
		}
	case StepShip:
		r.State, told = StateShipped, contract.InventoryShipped{OrderID: r.OrderID}
	case StepRelease:
		r.State, told = StateReleased, contract.InventoryReleased{OrderID: r.OrderID}
	case StepRefuse:
		r.State, r.Reason = StateRefused, "the order was off before its items were asked for"
	case StepNone:
	}
	if told == nil {
		return nil
	}
	r.Version++
	return event.Number(r.Version, told)
}

// shortage says for people why the items cannot be had, or "" when they can.
// have is what is available of each SKU that is kept in stock.
func shortage(want []Item, have map[string]int64) string {
	var short []string
	for _, i := range want {
		left, kept := have[i.SKU]
		switch {
		case !kept:
			short = append(short, fmt.Sprintf("%s is not kept in stock", i.SKU))
		case left < i.Quantity:
			short = append(short, fmt.Sprintf("%s: %d wanted, %d left", i.SKU, i.Quantity, left))
		}
	}
	return strings.Join(short, "; ")
}

// itemsOf takes the items out of an order: sorted by SKU, the lines of one SKU
// added up. What no stock can be asked for is a permanent fault.
func itemsOf(e contract.OrderPlaced) ([]Item, error) {
	sums := make(map[string]int64, len(e.Items))
	for _, i := range e.Items {
		if i.SKU == "" || i.Quantity < 1 || sums[i.SKU] > math.MaxInt64-i.Quantity {
			return nil, fault.Permanent("order %s asks for %d of %q; want an SKU and a quantity from 1 on", e.OrderID, i.Quantity, i.SKU)
		}
		sums[i.SKU] += i.Quantity
	}
	if len(sums) == 0 {
		return nil, fault.Permanent("order %s has no items; want one at least", e.OrderID)
	}
	items := make([]Item, 0, len(sums))
	for sku, n := range sums {
		items = append(items, Item{SKU: sku, Quantity: n})
	}
	slices.SortFunc(items, func(a, b Item) int { return cmp.Compare(a.SKU, b.SKU) })
	return items, nil
}
