package payment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/payment-svc/internal/provider"
	"pavane/shared/event"
	"pavane/shared/failpoint"
	"pavane/shared/postgres"
	"pavane/shared/retry"
)

const (
	// Each intent bears the event that made it: $2 to $4.
	intendSQL = `insert into charges (order_id, cause_id, correlation_id, traceparent) values ($1, $2, $3, $4)`
	wantSQL   = `update charges set wanted = $5, cause_id = $2, correlation_id = $3, traceparent = $4,
  next_at = clock_timestamp(), failures = 0, updated_at = clock_timestamp() where order_id = $1`
	// An intent that nobody took up was never sent anywhere.
	abandonSQL = `update charges set wanted = 'void', known = case when claims = 0 then 'voided' else known end,
  cause_id = $2, correlation_id = $3, traceparent = $4,
  next_at = least(next_at, clock_timestamp() + interval '1 second'), failures = 0, updated_at = clock_timestamp() where order_id = $1`
	// Those that are there are left alone, unlocked.
	openCardSQL = `insert into accounts (account_id, kind, customer_id, currency)
select n.account_id, n.kind, n.customer_id, $2 from (values
  ('card:' || $2, 'card', null), ('held:' || $1 || ':' || $2, 'held', $1::text), ('merchant:' || $2, 'merchant', null)) as n (account_id, kind, customer_id)
where not exists (select from accounts a where a.account_id = n.account_id) order by 1 on conflict do nothing`

	chargeColumns = `order_id, wanted, known, sent, claims, failures, last_error, cause_id, correlation_id, traceparent`
	lockChargeSQL = `select ` + chargeColumns + ` from charges where order_id = $1 for update`
	readChargeSQL = `select ` + chargeColumns + ` from charges where order_id = $1`
	hearSQL       = `update charges set known = $2, updated_at = clock_timestamp() where order_id = $1`

	// claimChargesSQL takes up charges for $2 seconds: until then no other charger
	// takes them. That a request may now be sent is written before it is. One that
	// lies more than $3 seconds off, further than any pause is long, was put there by
	// a clock that has gone back since.
	claimChargesSQL = `with due as (
  select c.order_id, c.sent from charges c where c.due
    and (c.next_at <= clock_timestamp() or c.next_at > clock_timestamp() + make_interval(secs => $3))
  order by c.next_at limit $1 for update skip locked
), taken as (
  update charges c set claims = c.claims + 1, sent = true, next_at = clock_timestamp() + make_interval(secs => $2)
  from due where c.order_id = due.order_id
  returning c.order_id, c.wanted, c.known, due.sent, c.claims, c.failures, c.last_error
) select t.order_id, t.wanted, t.known, t.sent, t.claims, t.failures, t.last_error, p.card_token, p.amount, p.currency
from taken t join payments p on p.order_id = t.order_id`

	// The number of the claim tells whether it is still this charger's. Only news ($3)
	// ends the failures in a row: where the provider answers nothing but questions,
	// each of them would have the next request sent at once.
	answeredSQL = `update charges set sent = false, failures = case when $3 then 0 else failures + $4 end,
  last_error = case when $3 then '' else last_error end, next_at = clock_timestamp() + make_interval(secs => $5)
where order_id = $1 and claims = $2`
	putOffChargeSQL = `update charges set sent = sent and not $3, failures = failures + 1, last_error = $4,
  next_at = clock_timestamp() + make_interval(secs => $5) where order_id = $1 and claims = $2`

	reopenSQL  = `update charges set known = 'held', sent = false, next_at = clock_timestamp() where order_id = $1 and wanted = 'void' and not due`
	cursorSQL  = `select after from charge_cursor`
	advanceSQL = `update charge_cursor set after = $2 where after = $1`
)

// claimed is a charge that this charger alone may ask for until its claim runs out.
type claimed struct {
	Charge
	CardToken string `db:"card_token"`
	Amount    int64  `db:"amount"`
	Currency  string `db:"currency"`
}

func claimCharges(ctx context.Context, db *postgres.DB, limit int, hold time.Duration) (charges []claimed, err error) {
	err = db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		charges = nil
		if err := tx.SelectContext(ctx, &charges, claimChargesSQL, limit, hold.Seconds(), max(hold, maxPutOff).Seconds()); err != nil || len(charges) == 0 {
			return err
		}
		return failpoint.Hit(ctx, "card.before_claim")
	})
	if err != nil {
		return nil, fmt.Errorf("take up charges: %w", err)
	}
	return charges, nil
}

func putOffCharge(ctx context.Context, db *postgres.DB, c claimed, pause time.Duration, certain bool, reason string) error {
	err := db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, putOffChargeSQL, c.OrderID, c.Claims, certain, reason, pause.Seconds()); err != nil {
			return err
		}
		return failpoint.Hit(ctx, "card.before_put_off")
	})
	if err != nil {
		return fmt.Errorf("put off the charge of order %s: %w", c.OrderID, err)
	}
	return failpoint.Hit(ctx, "card.after_put_off")
}

func lockCharge(ctx context.Context, tx *sqlx.Tx, orderID string) (Charge, error) {
	return loadCharge(ctx, tx, lockChargeSQL, orderID)
}

// loadCharge reads one charge. Without one it is [sql.ErrNoRows].
func loadCharge(ctx context.Context, tx *sqlx.Tx, statement, orderID string) (Charge, error) {
	var c Charge
	if err := tx.GetContext(ctx, &c, statement, orderID); err != nil {
		return Charge{}, fmt.Errorf("charge of order %s: %w", orderID, err)
	}
	return c, nil
}

// Charge returns what the provider was asked for an order; found is false for one
// that is not paid by card.
func (s *Service) Charge(ctx context.Context, orderID string) (c Charge, found bool, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		c, err = loadCharge(ctx, tx, readChargeSQL, orderID)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Charge{}, false, nil
	}
	return c, err == nil, err
}

// heard is what came of an answer.
type heard struct {
	news, contradiction bool
	events              []event.Numbered
}

// pause is how long the charge waits after one more failure.
func (c claimed) pause() time.Duration { return retry.Pause(c.Failures+1, firstPutOff, maxPutOff) }

func (c claimed) intent() provider.Intent {
	return provider.Intent{Key: c.OrderID, Reference: c.OrderID, Token: c.CardToken, Amount: c.Amount, Currency: c.Currency}
}
