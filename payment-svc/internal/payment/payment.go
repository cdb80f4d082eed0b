// Package payment owns what became of each order's payment and the double-entry
// ledger of the money behind it. Every change of money is a transfer that the
// database itself keeps sound.
package payment

import (
	"fmt"
	"regexp"
	"time"

	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/fault"
)

// State is what became of an order's payment.
type State string

// The states. Declined, captured, voided and refused are final. Only a payment by
// card is ever authorizing, capturing or voiding: there the money is moved by a
// provider, and the next fact is its answer.
const (
	StateWaiting     State = "waiting"     // for order.placed or for inventory.reserved
	StateAuthorizing State = "authorizing" // the provider is asked to hold the amount
	StateAuthorized  State = "authorized"  // the amount is held
	StateDeclined    State = "declined"    // the amount could not be had; none is held
	StateCapturing   State = "capturing"   // confirmed: the provider is asked to take the amount, for as long as it takes
	StateCaptured    State = "captured"    // the merchant has the amount
	StateVoiding     State = "voiding"     // cancelled: the provider is asked to give back what it holds
	StateVoided      State = "voided"      // the amount was held and is the customer's again
	StateRefused     State = "refused"     // cancelled before it was known that anything is held: the tombstone
)

// Fact is something that another service, or the card's provider, says about an
// order.
type Fact int

// The facts, each named after the event that tells it, or after the provider's
// answer.
const (
	Placed    Fact = iota // order.placed
	Reserved              // inventory.reserved
	Confirmed             // order.confirmed
	Cancelled             // order.cancelled
	Held                  // the provider holds the amount
	Denied                // the provider will not hold it
	Taken                 // the provider has taken it
	Returned              // the provider holds it no more, and never will
)

// String is the kind of event that tells the fact, for messages.
func (f Fact) String() string {
	return [...]string{
		"order.placed", "inventory.reserved", "order.confirmed", "order.cancelled",
		"provider.held", "provider.refused", "provider.captured", "provider.voided",
	}[f]
}

// Step is what a fact asks of the money.
type Step int

// The steps. Each of them but StepNone changes the state.
const (
	StepNone      Step = iota // the fact moves no money
	StepAuthorize             // hold the amount, or decline
	StepCapture               // give what is held to the merchant
	StepVoid                  // give what is held back
	StepRefuse                // remember that the order is off, so that nothing is ever held for it
)

// Payment is what became of one order's payment, and the facts it knows.
type Payment struct {
	OrderID     string    `db:"order_id"`
	State       State     `db:"state"`
	HasPlaced   bool      `db:"has_placed"`   // CustomerID, Amount, Currency and Method are known
	HasReserved bool      `db:"has_reserved"` // the items are set aside
	CustomerID  string    `db:"customer_id"`
	Amount      int64     `db:"amount"` // minor units of Currency
	Currency    string    `db:"currency"`
	Method      string    `db:"method"`
	CardToken   string    `db:"card_token"` // what the provider calls the card; empty: not paid by card
	Reason      string    `db:"reason"`     // for people: why it was declined
	Version     int64     `db:"version"`    // events published about the order
	CreatedAt   time.Time `db:"created_at"`
	UpdatedAt   time.Time `db:"updated_at"`
}

// learn notes a fact and tells what it asks for. Money is held once both the
// order and its reservation are known, whichever comes first. A fact that cannot
// follow on the state, such as a confirmation of what was never held, is a
// permanent fault: a record is missing, or a database was set back.
func (p *Payment) learn(f Fact) (Step, error) {
	p.HasPlaced = p.HasPlaced || f == Placed
	p.HasReserved = p.HasReserved || f == Reserved
	taking := p.State == StateCapturing || p.State == StateCaptured
	switch {
	case (p.State == StateWaiting || p.State == StateAuthorizing) && f == Cancelled:
		return StepRefuse, nil
	case p.State == StateWaiting && f < Confirmed && p.HasPlaced && p.HasReserved,
		p.State == StateAuthorizing && (f == Held || f == Denied || f == Returned):
		return StepAuthorize, nil
	case p.State == StateAuthorized && f == Confirmed, p.State == StateCapturing && f == Taken:
		return StepCapture, nil
	case p.State == StateAuthorized && f == Cancelled, p.State == StateVoiding && f == Returned:
		return StepVoid, nil
	case f == Confirmed && !taking, f == Cancelled && taking:
		return StepNone, fault.Permanent("%s for order %s, whose payment is in state %q: a record before it is missing", f, p.OrderID, p.State)
	default:
		return StepNone, nil
	}
}

// begin notes that the provider is asked to take a step. Nothing is told of it:
// what happened is told when the answer is there.
func (p *Payment) begin(step Step) {
	switch step {
	case StepAuthorize:
		p.State = StateAuthorizing
	case StepCapture:
		p.State = StateCapturing
	case StepVoid:
		p.State = StateVoiding
	case StepNone, StepRefuse:
	}
}

// done notes that a step was taken and returns the event that tells of it; a
// refusal turns an authorisation into a decline. A tombstone tells nothing.
func (p *Payment) done(step Step, refusal string) []event.Numbered {
	var told event.Event
	switch step {
	case StepAuthorize:
		p.State, told = StateAuthorized, contract.PaymentAuthorized{OrderID: p.OrderID, Amount: p.money()}
		if refusal != "" {
			p.State, p.Reason, told = StateDeclined, refusal, contract.PaymentDeclined{OrderID: p.OrderID, Reason: refusal}
		}
	case StepCapture:
		p.State, told = StateCaptured, contract.PaymentCaptured{OrderID: p.OrderID, Amount: p.money()}
	case StepVoid:
		p.State, told = StateVoided, contract.PaymentVoided{OrderID: p.OrderID, Amount: p.money()}
	case StepRefuse:
		p.State, p.Reason = StateRefused, "the order was cancelled before anything was held"
	case StepNone:
	}
	if told == nil {
		return nil
	}
	p.Version++
	return event.Number(p.Version, told)
}

func (p *Payment) money() contract.Money {
	return contract.Money{Amount: p.Amount, Currency: p.Currency}
}

// describe takes over what an order says about its payment. What no method
// could ever be asked for is a permanent fault.
func (p *Payment) describe(e contract.OrderPlaced) error {
	if e.CustomerID == "" || e.Total.Amount < 0 || !currencyCode.MatchString(e.Total.Currency) {
		return fault.Permanent("order %s of customer %q costs %d %q; want a customer, no negative amount and an ISO 4217 code",
			e.OrderID, e.CustomerID, e.Total.Amount, e.Total.Currency)
	}
	p.CustomerID, p.Amount, p.Currency, p.Method, p.CardToken = e.CustomerID, e.Total.Amount, e.Total.Currency, e.PaymentMethod, e.CardToken
	return nil
}

var currencyCode = regexp.MustCompile(`^[A-Z]{3}$`)

// text writes an amount for people: "3.00 EUR".
func text(amount int64, currency string) string {
	digits, unit := 2, int64(100)
	switch currency { // the exponents of ISO 4217 that are not 2, as far as they are met in trade
	case "JPY", "KRW", "CLP", "VND", "ISK":
		return fmt.Sprintf("%d %s", amount, currency)
	case "BHD", "JOD", "KWD", "OMR", "TND":
		digits, unit = 3, 1000
	}
	sign, whole, part := "", amount/unit, amount%unit
	if amount < 0 {
		sign, whole, part = "-", -whole, -part
	}
	return fmt.Sprintf("%s%d.%0*d %s", sign, whole, digits, part, currency)
}
