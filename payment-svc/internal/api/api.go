// Package api owns the HTTP routes of payment-svc. They only read; money moves
// by events.
package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"pavane/payment-svc/internal/payment"
	"pavane/shared/contract"
	"pavane/shared/httpapi"
)

// Payment is what became of an order's payment.
type Payment struct {
	OrderID    string          `json:"order_id"`
	State      string          `json:"state" enum:"waiting,authorizing,authorized,declined,capturing,captured,voiding,voided,refused"`
	Reason     string          `json:"reason,omitempty" doc:"for people: why it was declined or refused"`
	CustomerID string          `json:"customer_id,omitempty" doc:"missing while the order itself is not known"`
	Amount     *contract.Money `json:"amount,omitempty" doc:"missing while the order itself is not known"`
	Method     string          `json:"method,omitempty"`
	Charge     *Charge         `json:"charge,omitempty" doc:"only of an order paid by card, once the provider is to be asked"`
	Transfers  []Transfer      `json:"transfers" doc:"what the ledger holds for the order, oldest first"`
	Version    int64           `json:"version" doc:"events published about the order"`
	CreatedAt  time.Time       `json:"created_at"`
	UpdatedAt  time.Time       `json:"updated_at"`
}

// Charge is what is wanted of the card provider, and the last that is known of its
// charge.
type Charge struct {
	Wanted    string `json:"wanted" enum:"hold,capture,void"`
	Known     string `json:"known" enum:"none,held,refused,captured,voided"`
	Failures  int    `json:"failures" doc:"calls that failed in a row"`
	LastError string `json:"last_error,omitempty" doc:"of the last call, if it failed"`
}

// Transfer is one movement of an order's money.
type Transfer struct {
	Kind   string         `json:"kind" enum:"authorize,capture,void"`
	Amount contract.Money `json:"amount"`
	At     time.Time      `json:"at"`
}

// Account is what a customer has in one currency.
type Account struct {
	Available contract.Money `json:"available" doc:"may be spent"`
	Held      contract.Money `json:"held" doc:"set aside for orders that are not confirmed yet"`
}

// Balance is what all accounts of one kind hold together.
type Balance struct {
	Kind    string         `json:"kind" doc:"customer, held, merchant; funding or card: the world outside, which pays in, negative"`
	Balance contract.Money `json:"balance"`
}

// Ledger is the answer with what all accounts add up to.
type Ledger struct {
	Body struct {
		Balances  []Balance        `json:"balances" doc:"all of a currency are zero together"`
		Unsettled []contract.Money `json:"unsettled" doc:"what payments that are authorised and not settled come to, per currency; held accounts hold as much"`
		Suspects  []string         `json:"suspects" doc:"some orders whose payment and transfers do not fit, when held differs from unsettled"`
	}
}

// OnePayment is the answer with one payment.
type OnePayment struct{ Body Payment }

// CustomerAccounts is the answer with a customer's accounts.
type CustomerAccounts struct {
	Body struct {
		CustomerID string    `json:"customer_id"`
		Accounts   []Account `json:"accounts" doc:"one per currency"`
	}
}

type byOrder struct {
	OrderID string `path:"order" minLength:"1" maxLength:"100" doc:"the order's id"`
}

type byCustomer struct {
	CustomerID string `path:"customer" minLength:"1" maxLength:"100" doc:"the customer's id"`
}

// Register binds the routes to server.
func Register(server *httpapi.Server, s *payment.Service) {
	httpapi.Register(server, huma.Operation{
		OperationID: "get-payment", Method: http.MethodGet, Path: "/v1/payments/{order}",
		Summary: "What became of an order's payment", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *byOrder) (*OnePayment, error) { return onePayment(ctx, s, in.OrderID) })
	httpapi.Register(server, huma.Operation{
		OperationID: "get-accounts", Method: http.MethodGet, Path: "/v1/accounts/{customer}",
		Summary: "What a customer has", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *byCustomer) (*CustomerAccounts, error) {
		return customerAccounts(ctx, s, in.CustomerID)
	})
	httpapi.Register(server, huma.Operation{
		OperationID: "get-ledger", Method: http.MethodGet, Path: "/v1/ledger", Summary: "What all accounts add up to",
	}, func(ctx context.Context, _ *struct{}) (*Ledger, error) { return ledger(ctx, s) })
}

func onePayment(ctx context.Context, s *payment.Service, orderID string) (*OnePayment, error) {
	p, transfers, err := s.Payment(ctx, orderID)
	if err != nil {
		return nil, err
	}
	out := Payment{
		OrderID: p.OrderID, State: string(p.State), Reason: p.Reason, Transfers: make([]Transfer, len(transfers)),
		Version: p.Version, CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt,
	}
	if p.HasPlaced {
		out.CustomerID, out.Method = p.CustomerID, p.Method
		out.Amount = &contract.Money{Amount: p.Amount, Currency: p.Currency}
	}
	c, found, err := s.Charge(ctx, orderID)
	if err != nil {
		return nil, err
	}
	if found {
		out.Charge = &Charge{Wanted: c.Wanted, Known: string(c.Known), Failures: c.Failures, LastError: c.LastError}
	}
	for i, t := range transfers {
		out.Transfers[i] = Transfer{Kind: t.Kind, Amount: contract.Money{Amount: t.Amount, Currency: p.Currency}, At: t.At}
	}
	return &OnePayment{Body: out}, nil
}

func customerAccounts(ctx context.Context, s *payment.Service, customerID string) (*CustomerAccounts, error) {
	accounts, err := s.Accounts(ctx, customerID)
	if err != nil {
		return nil, err
	}
	out := &CustomerAccounts{}
	out.Body.CustomerID, out.Body.Accounts = customerID, make([]Account, len(accounts))
	for i, a := range accounts {
		out.Body.Accounts[i] = Account{
			Available: contract.Money{Amount: a.Available, Currency: a.Currency},
			Held:      contract.Money{Amount: a.Held, Currency: a.Currency},
		}
	}
	return out, nil
}

func ledger(ctx context.Context, s *payment.Service) (*Ledger, error) {
	l, err := s.Ledger(ctx)
	if err != nil {
		return nil, err
	}
	out := &Ledger{}
	out.Body.Balances, out.Body.Unsettled, out.Body.Suspects = make([]Balance, len(l.Balances)), []contract.Money{}, l.Suspects
	for i, b := range l.Balances {
		out.Body.Balances[i] = Balance{Kind: b.Kind, Balance: contract.Money{Amount: b.Balance, Currency: b.Currency}}
	}
	for _, currency := range slices.Sorted(maps.Keys(l.Unsettled)) {
		out.Body.Unsettled = append(out.Body.Unsettled, contract.Money{Amount: l.Unsettled[currency], Currency: currency})
	}
	return out, nil
}
