package inventory

import (
	"context"

	"github.com/jmoiron/sqlx"

	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/postgres"
)

// Service reacts to the saga's events and answers questions about the stock.
// Its reactions may meet on the same SKUs; they lock the order first and then
// the SKUs in their order.
type Service struct {
	db *postgres.DB
}

// New returns a service that reads from db. The reactions use only the
// transaction they are given.
func New(db *postgres.DB) *Service { return &Service{db: db} }

// Reserve sets the items of a new order aside, all or none. An order that was
// cancelled before it came is refused without an event.
func (s *Service) Reserve(ctx context.Context, tx *sqlx.Tx, e contract.OrderPlaced) ([]event.Numbered, error) {
	items, err := itemsOf(e)
	if err != nil {
		return nil, err
	}
	return s.take(ctx, tx, e.OrderID, Placed, items)
}

// Ship sends off what was set aside for an order, once it is confirmed.
func (s *Service) Ship(ctx context.Context, tx *sqlx.Tx, e contract.OrderConfirmed) ([]event.Numbered, error) {
	return s.take(ctx, tx, e.OrderID, Confirmed, nil)
}

// ReleaseDeclined gives back what was set aside for an order that cannot be
// paid, without waiting for its cancellation.
func (s *Service) ReleaseDeclined(ctx context.Context, tx *sqlx.Tx, e contract.PaymentDeclined) ([]event.Numbered, error) {
	return s.take(ctx, tx, e.OrderID, Declined, nil)
}

// ReleaseCancelled gives back what is still set aside for a cancelled order, or
// leaves a tombstone when the order is not known yet.
func (s *Service) ReleaseCancelled(ctx context.Context, tx *sqlx.Tx, e contract.OrderCancelled) ([]event.Numbered, error) {
	return s.take(ctx, tx, e.OrderID, Cancelled, nil)
}

// take tells the order's reservation a fact, takes the step that it asks for
// and returns the event that tells of it. items are those of a new order.
func (s *Service) take(ctx context.Context, tx *sqlx.Tx, orderID string, f Fact, items []Item) ([]event.Numbered, error) {
	r, err := lockReservation(ctx, tx, orderID)
	if err != nil {
		return nil, err
	}
	step, err := r.Next(f)
	if err != nil || step == StepNone {
		return nil, err
	}
	var short string
	switch step {
	case StepReserve:
		r.Items = items
		short, err = reserve(ctx, tx, r)
	case StepShip:
		err = book(ctx, tx, "ship", r)
	case StepRelease:
		err = book(ctx, tx, "release", r)
	case StepRefuse, StepNone:
	}
	if err != nil {
		return nil, err
	}
	events := r.done(step, short)
	return events, save(ctx, tx, r)
}

// reserve books the items out of what is available, or says what is short.
func reserve(ctx context.Context, tx *sqlx.Tx, r Reservation) (short string, err error) {
	have, err := lockStock(ctx, tx, r.Items)
	if err != nil {
		return "", err
	}
	if short = shortage(r.Items, have); short != "" {
		return short, nil
	}
	return "", book(ctx, tx, "reserve", r)
}

// Stock is the amounts of one SKU. What was ever received is their sum.
type Stock struct {
	SKU       string `db:"sku"`
	Available int64  `db:"available"`
	Reserved  int64  `db:"reserved"`
	Sold      int64  `db:"sold"`
}

// Stock returns all SKUs in their order.
func (s *Service) Stock(ctx context.Context) ([]Stock, error) {
	stock := []Stock{}
	err := s.db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		return tx.SelectContext(ctx, &stock, allStockSQL)
	})
	return stock, err
}

// Reservation returns what became of an order's items. An order nobody has told
// of is a fault of class NotFound.
func (s *Service) Reservation(ctx context.Context, orderID string) (Reservation, error) {
	var r Reservation
	err := s.db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
		var found bool
		if r, found, err = readReservation(ctx, tx, orderID); err == nil && !found {
			err = fault.NotFound("no reservation for order %q; it may not have come here yet", orderID)
		}
		return err
	})
	return r, err
}
