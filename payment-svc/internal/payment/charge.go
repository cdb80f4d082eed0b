package payment

import (
	"pavane/payment-svc/internal/provider"
	"pavane/shared/event"
)

// want is what the saga wants of a charge at the provider.
type want string

const (
	wantHold    want = "hold"
	wantCapture want = "capture"
	wantVoid    want = "void"
)

// Charge is what is wanted of the provider for an order, and the last that is
// known of its charge there.
type Charge struct {
	OrderID   string         `db:"order_id"`
	Wanted    string         `db:"wanted"` // "hold", "capture" or "void"
	Known     provider.State `db:"known"`
	Sent      bool           `db:"sent"` // a request may have been sent whose answer is not noted
	Claims    int64          `db:"claims"`
	Failures  int            `db:"failures"` // in a row
	LastError string         `db:"last_error"`
	cause
}

// cause is what is kept of the event that made an intent.
type cause struct {
	ID            string `db:"cause_id"`
	CorrelationID string `db:"correlation_id"`
	TraceParent   string `db:"traceparent"`
}

// of gives the events that tell of an answer the intent's cause.
func (c cause) of(events []event.Numbered) []event.Numbered {
	if c.ID == "" {
		return events
	}
	for i := range events {
		events[i].Cause = &event.Envelope{ID: c.ID, CorrelationID: c.CorrelationID, TraceParent: c.TraceParent}
	}
	return events
}

// ask is a call to the provider.
type ask int

const (
	askNothing ask = iota
	askFind
	askAuthorize
	askCapture
	askVoid
)

// String is the name of the call in metrics.
func (a ask) String() string {
	return [...]string{"nothing", "find", "authorize", "capture", "void"}[a]
}

// next is the call that brings what is known nearer to what is wanted. After a
// request whose outcome is unknown the provider is asked what came of it, before
// anything is asked for again. Where nothing is known, a void makes sure that a
// request which is still on its way finds no card to hold anything on.
func (c Charge) next() ask {
	switch {
	case !c.due():
		return askNothing
	case c.Sent:
		return askFind
	case want(c.Wanted) == wantHold:
		return askAuthorize
	case want(c.Wanted) == wantCapture:
		return askCapture
	default:
		return askVoid
	}
}

// due is what the database's column of that name holds.
func (c Charge) due() bool {
	switch want(c.Wanted) {
	case wantHold:
		return c.Known == provider.None
	case wantCapture:
		return c.Known != provider.Captured
	default:
		return c.Known == provider.None || c.Known == provider.Held
	}
}

// rank orders what can be known: no state follows one of the same or a higher
// rank.
func rank(s provider.State) int {
	switch s {
	case provider.None:
		return 0
	case provider.Held:
		return 1
	default:
		return 2
	}
}

// hear takes in what the provider says of the charge, and returns the fact that
// it is for the payment. An answer that is older than what is known is none.
func (c *Charge) hear(s provider.State) (f Fact, news bool) {
	if rank(s) <= rank(c.Known) {
		return 0, false
	}
	c.Known = s
	return map[provider.State]Fact{
		provider.Held: Held, provider.Refused: Denied, provider.Captured: Taken, provider.Voided: Returned,
	}[s], true
}

// contradicts tells of an answer that can never come to what is wanted: money was
// taken that is to go back, or there is nothing left to take. People must look.
func (c Charge) contradicts(s provider.State) bool {
	switch want(c.Wanted) {
	case wantCapture:
		return s == provider.Refused || s == provider.Voided
	case wantVoid:
		return s == provider.Captured
	default:
		return s == provider.Captured
	}
}
