package payment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/postgres"
)

const paymentColumns = `order_id, state, has_placed, has_reserved, customer_id, amount, currency, method, card_token, reason, version, created_at, updated_at`

// The update that changes nothing locks the row of an order that is known
// already, so one statement does for both.
const lockPaymentSQL = `insert into payments as p (order_id) values ($1)
on conflict (order_id) do update set version = p.version returning ` + paymentColumns

func lockPayment(ctx context.Context, tx *sqlx.Tx, orderID string) (Payment, error) {
	var p Payment
	if err := tx.GetContext(ctx, &p, lockPaymentSQL, orderID); err != nil {
		return Payment{}, fmt.Errorf("lock payment of order %s: %w", orderID, err)
	}
	return p, nil
}

const readPaymentSQL = `select ` + paymentColumns + ` from payments where order_id = $1`

func readPayment(ctx context.Context, tx *sqlx.Tx, orderID string) (p Payment, found bool, err error) {
	switch err := tx.GetContext(ctx, &p, readPaymentSQL, orderID); {
	case errors.Is(err, sql.ErrNoRows):
		return Payment{}, false, nil
	case err != nil:
		return Payment{}, false, fmt.Errorf("read payment of order %s: %w", orderID, err)
	}
	return p, true, nil
}

const savePaymentSQL = `update payments set state = $2, has_placed = $3, has_reserved = $4, customer_id = $5, amount = $6,
  currency = $7, method = $8, reason = $9, version = $10, card_token = $11, updated_at = clock_timestamp() where order_id = $1`

func save(ctx context.Context, tx *sqlx.Tx, p Payment) error {
	_, err := tx.ExecContext(ctx, savePaymentSQL, p.OrderID, p.State, p.HasPlaced, p.HasReserved, p.CustomerID, p.Amount,
		p.Currency, p.Method, p.Reason, p.Version, p.CardToken)
	if err != nil {
		return fmt.Errorf("save payment of order %s: %w", p.OrderID, err)
	}
	return nil
}

const lockWalletSQL = `select balance from accounts where account_id = $1 for no key update`

// lockWallet returns the balance of a customer's account and keeps it so until
// the transaction ends.
func lockWallet(ctx context.Context, tx *sqlx.Tx, customerID, currency string) (balance int64, found bool, err error) {
	switch err := tx.GetContext(ctx, &balance, lockWalletSQL, accountID("customer", customerID, currency)); {
	case errors.Is(err, sql.ErrNoRows):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("lock wallet of customer %s in %s: %w", customerID, currency, err)
	}
	return balance, true, nil
}

// A trigger changes the balances with the entries, in the order of the accounts
// so that two transfers never wait for each other. The constraints let each kind
// of transfer happen once per order, capture and void exclude each other, and at
// commit the whole transfer must be sound.
const settleSQL = `with t as (insert into transfers (kind, order_id) values ($1, $2) returning transfer_id)
insert into entries (transfer_id, leg, account_id, amount)
select t.transfer_id, l.leg, l.account_id, l.amount
from t, (values (1, $3::text, -$5::bigint), (2, $4::text, $5::bigint)) as l (leg, account_id, amount) order by l.account_id`

// settle moves the payment's amount from one account to another.
func settle(ctx context.Context, tx *sqlx.Tx, kind string, p Payment, from, to string) error {
	if _, err := tx.ExecContext(ctx, settleSQL, kind, p.OrderID, from, to, p.Amount); err != nil {
		return fmt.Errorf("%s %s for order %s: %w", kind, text(p.Amount, p.Currency), p.OrderID, err)
	}
	return nil
}

const customerAccountsSQL = `select currency, coalesce(sum(balance) filter (where kind = 'customer'), 0)::bigint as available,
  coalesce(sum(balance) filter (where kind = 'held'), 0)::bigint as held
from accounts where customer_id = $1 group by currency order by currency`

// Transfer is one movement of an order's money.
type Transfer struct {
	Kind   string    `db:"kind"`   // "authorize", "capture" or "void"
	Amount int64     `db:"amount"` // minor units
	At     time.Time `db:"at"`
}

const orderTransfersSQL = `select t.kind, e.amount, t.at from transfers t
join entries e on e.transfer_id = t.transfer_id and e.leg = 2 where t.order_id = $1 order by t.transfer_id`

const (
	openAccountsSQL = `insert into accounts (account_id, kind, customer_id, currency)
select k.kind || ':' || c.id || ':' || $2, k.kind, c.id, $2 from unnest($1::text[]) as c (id), (values ('customer'), ('held')) as k (kind) union all
select k.kind || ':' || $2, k.kind, null, $2 from (values ('merchant'), ('funding')) as k (kind)
order by 1 on conflict do nothing`
	depositSQL = `with t as (insert into transfers (kind, reference)
  select 'deposit', $1 || '/' || c.id from unnest($2::text[]) as c (id) on conflict (reference) do nothing
  returning transfer_id, substr(reference, length($1) + 2) as customer_id)
insert into entries (transfer_id, leg, account_id, amount)
select t.transfer_id, l.leg, l.account_id, l.amount
from t, lateral (values (1, 'funding:' || $3, -$4::bigint), (2, 'customer:' || t.customer_id || ':' || $3, $4::bigint))
  as l (leg, account_id, amount) order by l.account_id`
)

// OpenWallets gives customers their accounts in a currency. Those that are open
// stay as they are.
func (s *Service) OpenWallets(ctx context.Context, currency string, customers ...string) error {
	return s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, openAccountsSQL, postgres.Array(customers), currency); err != nil {
			return fmt.Errorf("open %d wallets in %s: %w", len(customers), currency, err)
		}
		return nil
	})
}

// Deposit pays an amount, in minor units, into each customer's wallet, once per
// reference and customer however often it is called. The wallets are open.
func (s *Service) Deposit(ctx context.Context, reference string, amount int64, currency string, customers ...string) error {
	return s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, depositSQL, reference, postgres.Array(customers), currency, amount); err != nil {
			return fmt.Errorf("deposit %s of %s into %d wallets: %w", reference, text(amount, currency), len(customers), err)
		}
		return nil
	})
}
