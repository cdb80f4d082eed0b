package payment

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/postgres"
)

// Service reacts to the saga's events and answers questions about payments and
// accounts. Its reactions may meet on the same accounts; they lock the order
// first, then the accounts.
type Service struct {
	db      *postgres.DB
	methods map[string]Method
}

// New returns a service that reads from db and pays by methods, each under the
// name that an order gives it. The reactions use only the transaction they are
// given.
func New(db *postgres.DB, methods map[string]Method) *Service {
	return &Service{db: db, methods: methods}
}

// AuthorizePlaced remembers what an order costs, and holds the amount if its
// items are known to be reserved.
func (s *Service) AuthorizePlaced(ctx context.Context, tx *sqlx.Tx, e contract.OrderPlaced) ([]event.Numbered, error) {
	return s.take(ctx, tx, e.OrderID, Placed, func(p *Payment) error { return p.describe(e) })
}

// AuthorizeReserved holds the amount of an order whose items are reserved; if
// the order is not known yet, it remembers the reservation.
func (s *Service) AuthorizeReserved(ctx context.Context, tx *sqlx.Tx, e contract.InventoryReserved) ([]event.Numbered, error) {
	return s.take(ctx, tx, e.OrderID, Reserved, nil)
}

// Capture gives the merchant what is held for an order, once it is confirmed.
func (s *Service) Capture(ctx context.Context, tx *sqlx.Tx, e contract.OrderConfirmed) ([]event.Numbered, error) {
	return s.take(ctx, tx, e.OrderID, Confirmed, nil)
}

// Void gives back what is held for a cancelled order, or leaves a tombstone so
// that nothing is held for it later.
func (s *Service) Void(ctx context.Context, tx *sqlx.Tx, e contract.OrderCancelled) ([]event.Numbered, error) {
	return s.take(ctx, tx, e.OrderID, Cancelled, nil)
}

// take tells the order's payment a fact, takes the step that it asks for and
// returns the event that tells of it. details, if there are any, are filled in
// the first time the fact is told.
func (s *Service) take(ctx context.Context, tx *sqlx.Tx, orderID string, f Fact, details func(*Payment) error) ([]event.Numbered, error) {
	p, err := lockPayment(ctx, tx, orderID)
	if err != nil {
		return nil, err
	}
	known := p
	if details != nil && !p.HasPlaced {
		if err := details(&p); err != nil {
			return nil, err
		}
	}
	step, err := p.learn(f)
	if err != nil || p == known && step == StepNone {
		return nil, err
	}
	events, err := s.step(ctx, tx, step, &p)
	if err != nil {
		return nil, err
	}
	return events, save(ctx, tx, p)
}

// step takes a step, or has it begun where the payment's method is remote.
func (s *Service) step(ctx context.Context, tx *sqlx.Tx, step Step, p *Payment) ([]event.Numbered, error) {
	remote, away := s.methods[p.Method].(Remote)
	if away && step == StepRefuse && p.State == StateAuthorizing {
		if err := remote.Abandon(ctx, tx, *p); err != nil {
			return nil, err
		}
	}
	refusal, err := s.move(ctx, tx, step, *p)
	if err != nil {
		return nil, err
	}
	if away && refusal == "" && step != StepNone && step != StepRefuse {
		p.begin(step)
		return nil, nil
	}
	return p.done(step, refusal), nil
}

// move moves the money of a step by the payment's method. An order that names a
// method that is not there is declined.
func (s *Service) move(ctx context.Context, tx *sqlx.Tx, step Step, p Payment) (refusal string, err error) {
	if step == StepNone || step == StepRefuse {
		return "", nil
	}
	m, ok := s.methods[p.Method]
	switch {
	case !ok && step == StepAuthorize:
		return fmt.Sprintf("there is no payment method %q", p.Method), nil
	case !ok:
		return "", fault.Permanent("order %s was authorised by the payment method %q, which is not there any more", p.OrderID, p.Method)
	case step == StepAuthorize:
		return m.Authorize(ctx, tx, p)
	case step == StepCapture:
		return "", m.Capture(ctx, tx, p)
	default:
		return "", m.Void(ctx, tx, p)
	}
}

// Account is what a customer has in one currency, in minor units.
type Account struct {
	Currency  string `db:"currency"`
	Available int64  `db:"available"` // may be spent
	Held      int64  `db:"held"`      // set aside for orders that are not confirmed yet
}

// Accounts returns a customer's accounts by currency. A customer without any is
// a fault of class NotFound.
func (s *Service) Accounts(ctx context.Context, customerID string) ([]Account, error) {
	var accounts []Account
	err := s.db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		accounts = nil
		return tx.SelectContext(ctx, &accounts, customerAccountsSQL, customerID)
	})
	if err == nil && len(accounts) == 0 {
		return nil, fault.NotFound("customer %q has no account", customerID)
	}
	return accounts, err
}

// Payment returns what became of an order's payment, with the transfers made
// for it. An order nobody has told of is a fault of class NotFound.
func (s *Service) Payment(ctx context.Context, orderID string) (p Payment, transfers []Transfer, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
		var found bool
		if p, found, err = readPayment(ctx, tx, orderID); err != nil {
			return err
		}
		if !found {
			return fault.NotFound("no payment for order %q; it may not have come here yet", orderID)
		}
		transfers = []Transfer{}
		return tx.SelectContext(ctx, &transfers, orderTransfersSQL, orderID)
	})
	return p, transfers, err
}
