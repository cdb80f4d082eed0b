package notification

import (
	"context"

	"github.com/jmoiron/sqlx"

	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/postgres"
)

// Service writes mails down. Its methods are reactions and emit nothing.
type Service struct {
	wake func()
}

// NewService returns a service that calls wake after each commit that leaves
// something to send. wake must not block.
func NewService(wake func()) *Service { return &Service{wake: wake} }

// Confirmed tells the customer that the order stands.
func (s *Service) Confirmed(ctx context.Context, tx *sqlx.Tx, e contract.OrderConfirmed) ([]event.Numbered, error) {
	return nil, s.tell(ctx, tx, confirmed(e))
}

// Cancelled tells the customer that the order is off, and why.
func (s *Service) Cancelled(ctx context.Context, tx *sqlx.Tx, e contract.OrderCancelled) ([]event.Numbered, error) {
	return nil, s.tell(ctx, tx, cancelled(e))
}

// Captured sends a receipt. The fact names no address and may come before the
// one that does; the receipt is held until then.
func (s *Service) Captured(ctx context.Context, tx *sqlx.Tx, e contract.PaymentCaptured) ([]event.Numbered, error) {
	return nil, s.tell(ctx, tx, receipt(e))
}

// tell writes the mail, and sends those on their way that waited for its
// address.
func (s *Service) tell(ctx context.Context, tx *sqlx.Tx, m Mail) error {
	known, err := addressee(ctx, tx, m.OrderID, m.Recipient)
	if err != nil {
		return err
	}
	m.Recipient = known
	if err := write(ctx, tx, m); err != nil {
		return err
	}
	if known == "" {
		return nil
	}
	postgres.OnCommit(ctx, s.wake)
	return address(ctx, tx, m.OrderID, known)
}
