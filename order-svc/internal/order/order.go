// Package order owns orders: their catalogue and customers, the state machine
// from placed to confirmed or cancelled, the idempotency keys of placing and the
// deadline of deciding.
package order

import (
	"errors"
	"time"

	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/fault"
)

// State is where an order stands. Confirmed and Cancelled are final.
type State string

// The states.
const (
	Placed    State = "placed"
	Confirmed State = "confirmed"
	Cancelled State = "cancelled"
)

// Reason says why an order was cancelled; empty in the other states.
type Reason string

// The reasons.
const (
	OutOfStock      Reason = "out_of_stock"
	PaymentDeclined Reason = "payment_declined"
	ByCustomer      Reason = "customer"
	ByDeadline      Reason = "deadline"
)

// Owner is a customer whose orders alone are there for a caller: those of others
// are as if they did not exist.
type Owner string

// Anybody is the owner for whom all orders are there.
const Anybody Owner = ""

// Effects is what peers have said they did for the order.
type Effects struct {
	Captured bool `json:"captured"` // the money went to the merchant
	Voided   bool `json:"voided"`   // the held money went back
	Shipped  bool `json:"shipped"`  // the items left the stock
	Released bool `json:"released"` // the reserved items are available again
}

// Order is one order. Its items and total never change.
type Order struct {
	ID            string // UUID of version 7
	CustomerID    string
	Email         string
	State         State
	Reason        Reason
	Detail        string // for people: more about the reason
	Items         []contract.Item
	Total         contract.Money
	PaymentMethod string
	CardToken     string // only while it is being placed: the order does not keep it
	Version       int64  // how many events of the order are published
	PlacedAt      time.Time
	DecidedAt     *time.Time // nil while placed
	Effects       Effects
}

// ErrConfirmed is in the chain of the error of cancelling a confirmed order.
var ErrConfirmed = errors.New("the order is confirmed and can no longer be cancelled")

// A transition takes an order to its next state and tells of it by events. It
// is pure. A transition that has happened already changes nothing and returns no
// events, so facts may come twice and in any order. One that cannot happen in a
// sound saga is an error, and then the order stays as it was.
type transition func(Order) (Order, []event.Event, error)

// Place tells that the order is there. It is the first event of every order.
func (o Order) Place() []event.Event {
	return []event.Event{contract.OrderPlaced{
		OrderID: o.ID, CustomerID: o.CustomerID, Email: o.Email,
		Items: o.Items, Total: o.Total, PaymentMethod: o.PaymentMethod, CardToken: o.CardToken,
	}}
}

// Confirm is the pivot: a placed order whose whole total is authorised stands.
// A cancelled order stays cancelled; payment voids on hearing of that.
func (o Order) Confirm(authorized contract.Money) (Order, []event.Event, error) {
	if authorized != o.Total {
		return o, nil, fault.Permanent("order %s: %d %s are authorised, it costs %d %s",
			o.ID, authorized.Amount, authorized.Currency, o.Total.Amount, o.Total.Currency)
	}
	if o.State != Placed {
		return o, nil, nil
	}
	if o.Effects.Released {
		return o, nil, fault.Permanent("order %s: payment is authorised, but its stock was released before", o.ID)
	}
	o.State = Confirmed
	return o, []event.Event{contract.OrderConfirmed{
		OrderID: o.ID, CustomerID: o.CustomerID, Email: o.Email, Total: o.Total,
	}}, nil
}

// Cancel ends a placed order for a reason. The first reason stays. A confirmed
// order is refused with [ErrConfirmed].
func (o Order) Cancel(reason Reason, detail string) (Order, []event.Event, error) {
	switch o.State {
	case Confirmed:
		return o, nil, ErrConfirmed
	case Cancelled:
		return o, nil, nil
	case Placed:
	}
	o.State, o.Reason, o.Detail = Cancelled, reason, detail
	return o, []event.Event{contract.OrderCancelled{
		OrderID: o.ID, CustomerID: o.CustomerID, Email: o.Email, Reason: string(reason), Detail: detail,
	}}, nil
}

// Refuse cancels the order because a peer refused its part. Peers refuse before
// anything is authorised, so the refusal of a confirmed order is a fault.
func (o Order) Refuse(reason Reason, detail string) (Order, []event.Event, error) {
	if o.State == Confirmed {
		return o, nil, fault.Permanent("order %s: refused as %s after it was confirmed", o.ID, reason)
	}
	return o.Cancel(reason, detail)
}

// Note records effects that peers report; nothing is published. Capture and
// shipping follow a confirmation and a void follows a cancellation. A release
// may be heard of before the refusal that caused it, but never once confirmed.
func (o Order) Note(done Effects) (Order, []event.Event, error) {
	switch {
	case (done.Captured || done.Shipped) && o.State != Confirmed,
		done.Voided && o.State != Cancelled,
		done.Released && o.State == Confirmed:
		return o, nil, fault.Permanent("order %s is %s, which rules out the reported effect %+v", o.ID, o.State, done)
	}
	o.Effects.Captured = o.Effects.Captured || done.Captured
	o.Effects.Voided = o.Effects.Voided || done.Voided
	o.Effects.Shipped = o.Effects.Shipped || done.Shipped
	o.Effects.Released = o.Effects.Released || done.Released
	return o, nil, nil
}
