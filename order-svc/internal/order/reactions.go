package order

import (
	"context"

	"github.com/jmoiron/sqlx"

	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/fault"
)

// Confirm lets the order stand once its payment is authorised.
func (s *Service) Confirm(ctx context.Context, tx *sqlx.Tx, e contract.PaymentAuthorized) ([]event.Numbered, error) {
	return s.react(ctx, tx, e, func(o Order) (Order, []event.Event, error) { return o.Confirm(e.Amount) })
}

// CancelOutOfStock cancels an order whose items cannot be had.
func (s *Service) CancelOutOfStock(ctx context.Context, tx *sqlx.Tx, e contract.InventoryRejected) ([]event.Numbered, error) {
	return s.react(ctx, tx, e, func(o Order) (Order, []event.Event, error) { return o.Refuse(OutOfStock, e.Reason) })
}

// CancelUnpaid cancels an order whose payment was declined.
func (s *Service) CancelUnpaid(ctx context.Context, tx *sqlx.Tx, e contract.PaymentDeclined) ([]event.Numbered, error) {
	return s.react(ctx, tx, e, func(o Order) (Order, []event.Event, error) { return o.Refuse(PaymentDeclined, e.Reason) })
}

// NoteCaptured records that the money was taken.
func (s *Service) NoteCaptured(ctx context.Context, tx *sqlx.Tx, e contract.PaymentCaptured) ([]event.Numbered, error) {
	return s.note(ctx, tx, e, Effects{Captured: true})
}

// NoteVoided records that the held money went back.
func (s *Service) NoteVoided(ctx context.Context, tx *sqlx.Tx, e contract.PaymentVoided) ([]event.Numbered, error) {
	return s.note(ctx, tx, e, Effects{Voided: true})
}

// NoteShipped records that the items left the stock.
func (s *Service) NoteShipped(ctx context.Context, tx *sqlx.Tx, e contract.InventoryShipped) ([]event.Numbered, error) {
	return s.note(ctx, tx, e, Effects{Shipped: true})
}

// NoteReleased records that the reserved items are available again.
func (s *Service) NoteReleased(ctx context.Context, tx *sqlx.Tx, e contract.InventoryReleased) ([]event.Numbered, error) {
	return s.note(ctx, tx, e, Effects{Released: true})
}

func (s *Service) note(ctx context.Context, tx *sqlx.Tx, e event.Event, done Effects) ([]event.Numbered, error) {
	return s.react(ctx, tx, e, func(o Order) (Order, []event.Event, error) { return o.Note(done) })
}

// react makes a transition in the transaction of the reaction. Peers speak of an
// order only after its first event, which is written together with it, so an
// unknown one is no question of time.
func (s *Service) react(ctx context.Context, tx *sqlx.Tx, e event.Event, f transition) ([]event.Numbered, error) {
	_, events, err := s.change(ctx, tx, e.Key(), step{lock: lockSQL}, f)
	if fault.ClassOf(err) == fault.ClassNotFound {
		return nil, fault.Permanent("%s: %w", e.Kind(), err)
	}
	return events, err
}
