package main

import (
	"context"
	"fmt"
	"testing"

	"pavane/migrations"
	"pavane/payment-svc/internal/payment"
	"pavane/proof/search"
	"pavane/proof/search/replay"
	"pavane/shared/contract"
	"pavane/shared/fault"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
)

// TestSaga_WalksOfTheSearch_DoTheSameOnPostgres keeps the model of proof/search
// from drifting from this service.
func TestSaga_WalksOfTheSearch_DoTheSameOnPostgres(t *testing.T) {
	t.Parallel()
	replay.Walks(t, "..", func(t *testing.T, c search.Config) replay.Service {
		db := pgtest.WithKit(t, migrations.Payment())
		out, err := outbox.New(outbox.Config{Source: "/payment-svc", Topics: contract.Topics()})
		if err != nil {
			t.Fatal(err)
		}
		s := payment.New(db, map[string]payment.Method{"wallet": payment.Wallet{}})
		for customer, amount := range c.Wallets {
			if err := s.OpenWallets(t.Context(), "EUR", customer); err != nil {
				t.Fatal(err)
			}
			if err := s.Deposit(t.Context(), "walk", int64(amount), "EUR", customer); err != nil {
				t.Fatal(err)
			}
		}
		return replay.Service{
			Name: "payment-svc", DB: db, Outbox: out, Reactions: saga(s),
			Order: func(k int) contract.OrderPlaced {
				return contract.OrderPlaced{
					OrderID: fmt.Sprintf("o-%d", k), CustomerID: c.Orders[k].Customer, PaymentMethod: "wallet",
					Total: contract.Money{Amount: int64(c.Orders[k].Price), Currency: "EUR"},
				}
			},
			State:   func(ctx context.Context, id string) (string, error) { return stateOf(ctx, s, id) },
			Wallets: func(ctx context.Context) (map[string]int, error) { return wallets(ctx, s, c) },
		}
	})
}

func stateOf(ctx context.Context, s *payment.Service, id string) (string, error) {
	p, _, err := s.Payment(ctx, id)
	if fault.ClassOf(err) == fault.ClassNotFound {
		return search.PaymentState(string(payment.StateWaiting), false, false), nil
	}
	return search.PaymentState(string(p.State), p.HasPlaced, p.HasReserved), err
}

func wallets(ctx context.Context, s *payment.Service, c search.Config) (map[string]int, error) {
	available := map[string]int{}
	for customer := range c.Wallets {
		accounts, err := s.Accounts(ctx, customer)
		if err != nil {
			return nil, err
		}
		available[customer] = int(accounts[0].Available)
	}
	return available, nil
}
