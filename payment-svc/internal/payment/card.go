package payment

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"pavane/payment-svc/internal/provider"
	"pavane/shared/event"
	"pavane/shared/postgres"
	"pavane/shared/retry"
)

// Card is the method that pays by a card at a provider. Its steps are rows in
// charges, which a [Charger] carries out.
type Card struct {
	// Wake is called when there is something for the charger. It must not block.
	// Nil: there is no provider. Then no card is charged any more, and what was
	// begun waits for one.
	Wake func()
}

// Authorize writes down that the amount is to be held.
func (c Card) Authorize(ctx context.Context, tx *sqlx.Tx, p Payment) (refusal string, err error) {
	switch {
	case c.Wake == nil:
		return "no cards are taken here: there is no payment provider", nil
	case p.CardToken == "":
		return "the order names no card", nil
	}
	return "", c.write(ctx, tx, p, "hold", intendSQL)
}

// Capture writes down that what is held is to be taken.
func (c Card) Capture(ctx context.Context, tx *sqlx.Tx, p Payment) error {
	return c.write(ctx, tx, p, "capture", wantSQL, wantCapture)
}

// Void writes down that what is held is to be given back.
func (c Card) Void(ctx context.Context, tx *sqlx.Tx, p Payment) error {
	return c.write(ctx, tx, p, "void", wantSQL, wantVoid)
}

// Abandon writes down that whatever is held is to be given back. If nobody has
// taken the intent up yet, nothing is, and the provider need not hear of it.
func (c Card) Abandon(ctx context.Context, tx *sqlx.Tx, p Payment) error {
	return c.write(ctx, tx, p, "abandon", abandonSQL)
}

// write changes the one row of the order's charge, and notes which event had it done.
func (c Card) write(ctx context.Context, tx *sqlx.Tx, p Payment, what, statement string, more ...any) error {
	var by event.Envelope
	if e := event.CauseOf(ctx); e != nil {
		by = *e
	}
	res, err := tx.ExecContext(ctx, statement, append([]any{p.OrderID, by.ID, by.CorrelationID, by.TraceParent}, more...)...)
	if err == nil {
		var n int64
		if n, err = res.RowsAffected(); err == nil && n != 1 {
			err = fmt.Errorf("%d rows of charges fit", n)
		}
	}
	if err != nil {
		return fmt.Errorf("%s the charge of order %s: %w", what, p.OrderID, err)
	}
	if c.Wake != nil {
		postgres.OnCommit(ctx, c.Wake)
	}
	return nil
}

// Book moves the amount in the ledger, as the provider has moved it.
func (c Card) Book(ctx context.Context, tx *sqlx.Tx, step Step, p Payment) error {
	card := accountID("card", "", p.Currency)
	switch step {
	case StepAuthorize:
		if _, err := tx.ExecContext(ctx, openCardSQL, p.CustomerID, p.Currency); err != nil {
			return fmt.Errorf("open the accounts for cards in %s: %w", p.Currency, err)
		}
		return settle(ctx, tx, "authorize", p, card, heldAccount(p))
	case StepCapture:
		return settle(ctx, tx, "capture", p, heldAccount(p), accountID("merchant", "", p.Currency))
	case StepVoid:
		return settle(ctx, tx, "void", p, heldAccount(p), card)
	case StepNone, StepRefuse:
	}
	return nil
}

// answer takes in what the provider says of an order's charge: the payment goes
// on, its money is booked, and the events tell of it. It reports whether that was
// news, and whether it contradicts what is wanted.
func (s *Service) answer(ctx context.Context, tx *sqlx.Tx, orderID string, got provider.Charge) (h heard, err error) {
	p, err := lockPayment(ctx, tx, orderID)
	if err != nil {
		return h, err
	}
	c, err := lockCharge(ctx, tx, orderID)
	if err != nil {
		return h, err
	}
	if !p.fits(got) { // not for what was asked for, whatever else is done with it
		h.contradiction = true
		return h, nil
	}
	h.contradiction = c.contradicts(got.State)
	f, news := c.hear(got.State)
	if h.news = news; !news {
		return h, nil
	}
	if _, err := tx.ExecContext(ctx, hearSQL, orderID, c.Known); err != nil {
		return h, fmt.Errorf("note the charge of order %s as %s: %w", orderID, c.Known, err)
	}
	step, err := p.learn(f)
	if err != nil || step == StepNone {
		return h, err
	}
	refusal := ""
	if f == Denied || f == Returned && step == StepAuthorize {
		refusal = cardRefusal(got)
	} else if err := s.book(ctx, tx, step, p); err != nil {
		return h, err
	}
	h.events = c.cause.of(p.done(step, refusal))
	return h, save(ctx, tx, p)
}

// fits tells whether a charge is of the payment's amount. One that holds nothing
// is of any.
func (p Payment) fits(c provider.Charge) bool {
	return c.State != provider.Held && c.State != provider.Captured || c.Amount == p.Amount && c.Currency == p.Currency
}

func (s *Service) book(ctx context.Context, tx *sqlx.Tx, step Step, p Payment) error {
	remote, ok := s.methods[p.Method].(Remote)
	if !ok {
		return errors.New("the payment method " + p.Method + " asks no provider")
	}
	return remote.Book(ctx, tx, step, p)
}

func cardRefusal(c provider.Charge) string {
	if c.Reason == "" {
		return "the card was refused"
	}
	return fmt.Sprintf("the card was refused: %.200s", retry.Text(c.Reason))
}
