package notification

import (
	"context"

	"github.com/jmoiron/sqlx"

	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/postgres"
)

// Service writes messages down. Its methods are reactions and emit nothing.
type Service struct {
	mails, webhooks func()
}

// NewService returns a service that calls mails and webhooks after each commit
// that leaves something to send to theirs. They must not block. With nil for
// webhooks nobody is told by them, and none is written: one that is switched on
// later is told what happens from then on.
func NewService(mails, webhooks func()) *Service { return &Service{mails: mails, webhooks: webhooks} }

// Confirmed tells that the order stands.
func (s *Service) Confirmed(ctx context.Context, tx *sqlx.Tx, e contract.OrderConfirmed) ([]event.Numbered, error) {
	return nil, s.tell(ctx, tx, confirmed(e), confirmedNews(e))
}

// Cancelled tells that the order is off, and why.
func (s *Service) Cancelled(ctx context.Context, tx *sqlx.Tx, e contract.OrderCancelled) ([]event.Numbered, error) {
	return nil, s.tell(ctx, tx, cancelled(e), cancelledNews(e))
}

// Captured sends a receipt. The fact names no address and may come before the
// one that does; the mail is held until then. The webhook needs none.
func (s *Service) Captured(ctx context.Context, tx *sqlx.Tx, e contract.PaymentCaptured) ([]event.Numbered, error) {
	return nil, s.tell(ctx, tx, receipt(e), receiptNews(e))
}

func (s *Service) tell(ctx context.Context, tx *sqlx.Tx, m Message, n news) error {
	if err := s.mail(ctx, tx, m); err != nil {
		return err
	}
	return s.webhook(ctx, tx, n)
}

// mail writes the mail, and sends those on their way that waited for its
// address.
func (s *Service) mail(ctx context.Context, tx *sqlx.Tx, m Message) error {
	known, err := addressee(ctx, tx, m.OrderID, m.Recipient)
	if err != nil {
		return err
	}
	m.Recipient = known
	if err := writeMail(ctx, tx, m); err != nil {
		return err
	}
	if known == "" {
		return nil
	}
	postgres.OnCommit(ctx, s.mails)
	return address(ctx, tx, m.OrderID, known)
}

// webhook writes the webhook, if there is somebody to tell.
func (s *Service) webhook(ctx context.Context, tx *sqlx.Tx, n news) error {
	if s.webhooks == nil {
		return nil
	}
	m, err := n.message(event.CauseOf(ctx))
	if err != nil {
		return err
	}
	postgres.OnCommit(ctx, s.webhooks)
	return writeWebhook(ctx, tx, m)
}
