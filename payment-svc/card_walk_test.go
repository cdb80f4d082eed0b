package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/migrations"
	"pavane/payment-svc/internal/payment"
	"pavane/payment-svc/internal/provider"
	"pavane/proof/search"
	"pavane/proof/search/replay"
	"pavane/shared/contract"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
)

// TestSaga_CardWalksOfTheSearch_DoTheSameOnPostgres keeps the model of payment by
// card from drifting from this service.
func TestSaga_CardWalksOfTheSearch_DoTheSameOnPostgres(t *testing.T) {
	t.Parallel()
	machines, err := search.LoadCard(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	machine := machines[slices.IndexFunc(machines, func(m search.Machine) bool { return m.Service == "payment-svc" })]
	replay.CardWalks(t, "..", func(t *testing.T, c search.Config) replay.Service {
		w := newCardWalker(t, machine)
		return replay.Service{
			Name: "payment-svc", DB: w.cfg.DB, Outbox: w.outbox, Reactions: saga(w.cfg.Service),
			Order: func(k int) contract.OrderPlaced {
				return contract.OrderPlaced{
					OrderID: orderID(k), CustomerID: c.Orders[k].Customer, PaymentMethod: "card", CardToken: "tok_ok",
					Total: contract.Money{Amount: int64(c.Orders[k].Price), Currency: "EUR"},
				}
			},
			Ask: w.answer, State: w.state,
		}
	})
}

func orderID(k int) string { return fmt.Sprintf("o-%d", k) }

// cardWalker gives the answers of a walk, as the comparison with the provider's
// list hears them.
type cardWalker struct {
	cfg     payment.ChargerConfig
	outbox  *outbox.Outbox
	machine search.Machine
	list    *list
}

// list is a provider of which only what has changed is looked at.
type list struct {
	payment.Provider
	charges []provider.Charge
}

func (l *list) Changes(_ context.Context, after int64, _ int) ([]provider.Charge, int64, error) {
	return l.charges[after:], int64(len(l.charges)), nil
}

// Find is asked only about a charge that is in the list.
func (l *list) Find(_ context.Context, key string) (provider.Charge, error) {
	for _, c := range slices.Backward(l.charges) {
		if c.Key == key {
			return c, nil
		}
	}
	panic("no charge " + key)
}

func newCardWalker(t *testing.T, machine search.Machine) *cardWalker {
	t.Helper()
	db := pgtest.WithKit(t, migrations.Payment())
	out, err := outbox.New(outbox.Config{Source: "/payment-svc", Topics: contract.Topics()})
	if err != nil {
		t.Fatal(err)
	}
	// In the model each charge is taken up as soon as it is there.
	if _, err := db.SQL().ExecContext(t.Context(), `alter table charges alter column claims set default 1`); err != nil {
		t.Fatal(err)
	}
	l := &list{}
	return &cardWalker{outbox: out, machine: machine, list: l, cfg: payment.ChargerConfig{
		DB: db, Service: payment.New(db, map[string]payment.Method{"card": payment.Card{Wake: func() {}}}), Outbox: out, Provider: l,
		Timeout: time.Second, Logger: slog.New(slog.DiscardHandler), Alone: func(context.Context, *sqlx.Tx) error { return nil },
	}}
}

// answer has the service hear an answer. What the machine ignores no provider
// says that holds to its own states, or only people can mend it.
func (w *cardWalker) answer(ctx context.Context, fact string, k int) error {
	now, err := w.state(ctx, orderID(k))
	if err != nil {
		return err
	}
	i := slices.IndexFunc(w.machine.States, func(s search.State) bool { return s.Name == now })
	if i < 0 || !slices.ContainsFunc(w.machine.States[i].Rows, func(r search.Row) bool { return r.On == fact }) {
		return nil
	}
	state := provider.State(strings.TrimPrefix(fact, "provider."))
	p, _, err := w.cfg.Service.Payment(ctx, orderID(k))
	if err != nil {
		return err
	}
	w.list.charges = append(w.list.charges, provider.Charge{Key: p.OrderID, Reference: p.OrderID, State: state, Amount: p.Amount, Currency: p.Currency})
	_, err = payment.NewCharger(w.cfg).ReconcileOnce(ctx)
	return err
}

func (w *cardWalker) state(ctx context.Context, id string) (string, error) {
	s, err := stateOf(ctx, w.cfg.Service, id)
	if err != nil {
		return "", err
	}
	c, _, err := w.cfg.Service.Charge(ctx, id)
	return search.CardState(s, c.Wanted, string(c.Known)), err
}
