package payment

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// Method is one way of paying. Everything it does it does in tx, together with
// the payment's state and the event that tells of it.
//
// The wallet can do so because its money is rows of this database. A method
// whose money is elsewhere, such as a [Card] at a provider, must not call out from
// in here: a transaction that waits for a stranger holds locks for as long, and
// its rollback does not take the charge back. It is [Remote].
type Method interface {
	// Authorize holds the payment's amount. A refusal, said for people, is no
	// error: the payment is declined and nothing is held.
	Authorize(ctx context.Context, tx *sqlx.Tx, p Payment) (refusal string, err error)
	// Capture gives the merchant what was authorised.
	Capture(ctx context.Context, tx *sqlx.Tx, p Payment) error
	// Void gives the customer back what was authorised.
	Void(ctx context.Context, tx *sqlx.Tx, p Payment) error
}

// Remote is a method whose steps are carried out by somebody else, at some later
// time. Authorize, Capture and Void only write down in tx what is wanted. A part
// of the service asks for it outside of any transaction, and the answer, once
// recorded, is what moves the payment on.
type Remote interface {
	Method
	// Abandon takes back an authorisation that may or may not have been carried
	// out: whatever comes of it is to be voided.
	Abandon(ctx context.Context, tx *sqlx.Tx, p Payment) error
	// Book books the money of a step that has been carried out.
	Book(ctx context.Context, tx *sqlx.Tx, step Step, p Payment) error
}

// Wallet is the method that pays from the customer's account in the ledger.
type Wallet struct{}

// Authorize moves the amount from the customer's account to what is held,
// unless there is no account in the currency or its balance is short.
func (Wallet) Authorize(ctx context.Context, tx *sqlx.Tx, p Payment) (refusal string, err error) {
	balance, found, err := lockWallet(ctx, tx, p.CustomerID, p.Currency)
	switch {
	case err != nil:
		return "", err
	case !found:
		return fmt.Sprintf("customer %s has no wallet in %s", p.CustomerID, p.Currency), nil
	case balance < p.Amount:
		return fmt.Sprintf("the wallet holds %s, the order costs %s", text(balance, p.Currency), text(p.Amount, p.Currency)), nil
	}
	return "", settle(ctx, tx, "authorize", p, customerAccount(p), heldAccount(p))
}

// Capture moves what is held to the merchant.
func (Wallet) Capture(ctx context.Context, tx *sqlx.Tx, p Payment) error {
	return settle(ctx, tx, "capture", p, heldAccount(p), accountID("merchant", "", p.Currency))
}

// Void moves what is held back to the customer's account.
func (Wallet) Void(ctx context.Context, tx *sqlx.Tx, p Payment) error {
	return settle(ctx, tx, "void", p, heldAccount(p), customerAccount(p))
}

func customerAccount(p Payment) string { return accountID("customer", p.CustomerID, p.Currency) }
func heldAccount(p Payment) string     { return accountID("held", p.CustomerID, p.Currency) }

// accountID is the id that an account must have.
func accountID(kind, customerID, currency string) string {
	if customerID == "" {
		return kind + ":" + currency
	}
	return kind + ":" + customerID + ":" + currency
}
