package order

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/failpoint"
	"pavane/shared/fault"
	"pavane/shared/postgres"
)

// Outbox takes the events that a request or the timer causes. Events that
// reactions return are appended by who runs the reactions.
type Outbox interface {
	Append(ctx context.Context, tx *sqlx.Tx, events ...event.Numbered) error
}

// Config says what a service works on. All fields but Admit are required.
type Config struct {
	DB     *postgres.DB
	Outbox Outbox
	Logger *slog.Logger

	// Deadline is how long an order may stay placed.
	Deadline time.Duration

	// Admit returns why no new order is taken now, or nil. Nil: orders always are.
	Admit func() error
}

// Service places, decides and shows orders. Its methods may be called
// concurrently, and by several processes on one database.
type Service struct {
	db       *postgres.DB
	outbox   Outbox
	log      *slog.Logger
	deadline time.Duration
	admit    func() error
	waiters  *waiters
}

// New returns a service. It connects to nothing.
func New(c Config) *Service {
	if c.Admit == nil {
		c.Admit = func() error { return nil }
	}
	return &Service{db: c.DB, outbox: c.Outbox, log: c.Logger, deadline: c.Deadline, admit: c.Admit, waiters: newWaiters()}
}

// Place accepts an order: it, its idempotency key, its deadline and its event
// are written together or not at all. A repetition under the same key returns
// the first order with replayed = true, also while no new one is admitted; the
// same key with another request, and everything that is wrong with a request, is
// an Invalid fault.
func (s *Service) Place(ctx context.Context, r Request) (o Order, replayed bool, err error) {
	if err := r.check(); err != nil {
		return Order{}, false, err
	}
	id := event.NewID()
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		before, err := s.claim(ctx, tx, r, id)
		if err != nil {
			return err
		}
		if replayed = before != ""; replayed {
			o, err = load(ctx, tx.GetContext, getSQL, before, Owner(r.CustomerID))
			return err
		}
		if err := s.admit(); err != nil {
			return err
		}
		if o, err = s.place(ctx, tx, r, id); err != nil {
			return err
		}
		return failpoint.Hit(ctx, "order.before_place")
	})
	if err == nil && !replayed {
		err = failpoint.Hit(ctx, "order.after_place")
	}
	if err != nil {
		return Order{}, false, err
	}
	return o, replayed, nil
}

// claim comes before everything that may have changed since the first request,
// such as prices: a repetition must get the same answer.
func (s *Service) claim(ctx context.Context, tx *sqlx.Tx, r Request, id string) (before string, err error) {
	if r.IdempotencyKey == "" {
		return "", nil
	}
	hash, err := r.hash()
	if err != nil {
		return "", err
	}
	return claim(ctx, tx, r, hash, id)
}

func (s *Service) place(ctx context.Context, tx *sqlx.Tx, r Request, id string) (Order, error) {
	c, err := customer(ctx, tx, r.CustomerID)
	if err != nil {
		return Order{}, err
	}
	catalogue, err := prices(ctx, tx, r.skus())
	if err != nil {
		return Order{}, err
	}
	items, total, err := r.price(catalogue)
	if err != nil {
		return Order{}, err
	}
	o := Order{
		ID: id, CustomerID: c.ID, Email: c.Email, State: Placed, Items: items, Total: total,
		PaymentMethod: r.PaymentMethod, CardToken: r.CardToken, Version: 1,
	}
	if o.PlacedAt, err = insert(ctx, tx, o, s.deadline); err != nil {
		return Order{}, err
	}
	return o, s.outbox.Append(ctx, tx, event.Number(1, o.Place()...)...)
}

// Cancel cancels an order of owner at its customer's wish. An order that is cancelled
// already is returned as it is; a confirmed one is a Conflict fault.
func (s *Service) Cancel(ctx context.Context, id string, owner Owner) (Order, error) {
	o, err := s.act(ctx, step{lockSQL, owner, "order.before_cancel", "order.after_cancel"}, id, func(o Order) (Order, []event.Event, error) {
		return o.Cancel(ByCustomer, "cancelled by the customer")
	})
	if errors.Is(err, ErrConfirmed) {
		return Order{}, fault.Conflict("order %s cannot be cancelled: it is confirmed already, and its payment is being taken", id)
	}
	return o, err
}

// step is how a transition takes its order and for whom, and the failpoints around
// its commit.
type step struct {
	lock          string
	owner         Owner
	before, after string
}

// act makes a transition in a transaction of its own and appends its events.
func (s *Service) act(ctx context.Context, how step, id string, f transition) (Order, error) {
	var o Order
	err := s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		var (
			events []event.Numbered
			err    error
		)
		if o, events, err = s.change(ctx, tx, id, how, f); err != nil {
			return err
		}
		if err := s.outbox.Append(ctx, tx, events...); err != nil {
			return err
		}
		return failpoint.Hit(ctx, how.before)
	})
	if err == nil {
		err = failpoint.Hit(ctx, how.after)
	}
	if err != nil {
		return Order{}, err
	}
	return o, nil
}

// change locks an order, makes a transition and saves what came of it. The lock
// is what makes the numbers of the events dense.
func (s *Service) change(ctx context.Context, tx *sqlx.Tx, id string, how step, f transition) (Order, []event.Numbered, error) {
	before, err := load(ctx, tx.GetContext, how.lock, id, how.owner)
	if err != nil {
		return Order{}, nil, err
	}
	after, events, err := f(before)
	if err != nil {
		return Order{}, nil, err
	}
	if len(events) == 0 && after.Effects == before.Effects {
		return before, nil, nil
	}
	after.Version += int64(len(events))
	if after.DecidedAt, err = save(ctx, tx, before.Version, after); err != nil {
		return Order{}, nil, err
	}
	if len(events) > 0 {
		postgres.OnCommit(ctx, func() { s.waiters.wake(after.ID) })
	}
	return after, event.Number(before.Version+1, events...), nil
}

// Get returns an order of owner; an unknown one is a NotFound fault.
func (s *Service) Get(ctx context.Context, id string, owner Owner) (Order, error) {
	return load(ctx, s.db.Get, getSQL, id, owner)
}

// Deadline returns when an undecided order of owner will be cancelled; nil when it
// is decided.
func (s *Service) Deadline(ctx context.Context, id string, owner Owner) (*time.Time, error) {
	var due time.Time
	switch err := s.db.Get(ctx, &due, deadlineSQL, id, string(owner)); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("deadline of order %s: %w", id, err)
	}
	due = due.UTC()
	return &due, nil
}

// Filter chooses orders for [Service.List].
type Filter struct {
	Owner Owner  // whose
	State State  // empty: all
	After string // the id of the last order of the page before; empty: from the newest on
	Limit int    // how many at most, from 1 on
}

// List returns orders, the newest first. A malformed After is an Invalid fault.
func (s *Service) List(ctx context.Context, f Filter) ([]Order, error) {
	if f.After == "" {
		f.After = newest
	}
	if !isID(f.After) {
		return nil, fault.Invalid("after %.80q is no order id: send the next of the page before", f.After)
	}
	query, args := f.query()
	var rows []orderRow
	err := s.db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		rows = nil
		return tx.SelectContext(ctx, &rows, query, args...)
	})
	if err != nil {
		return nil, fmt.Errorf("orders: list: %w", err)
	}
	orders := make([]Order, len(rows))
	for i, r := range rows {
		if orders[i], err = r.order(); err != nil {
			return nil, err
		}
	}
	return orders, nil
}

// query is the statement for a filter. Each has its own, so that each has the index
// that fits it.
func (f Filter) query() (string, []any) {
	args := []any{f.After, f.Limit}
	switch {
	case f.Owner != Anybody && f.State != "":
		return listOwnStateSQL, append(args, string(f.Owner), string(f.State))
	case f.Owner != Anybody:
		return listOwnSQL, append(args, string(f.Owner))
	case f.State != "":
		return listStateSQL, append(args, string(f.State))
	}
	return listSQL, args
}

// Products returns the catalogue by SKU, 1000 products at most.
func (s *Service) Products(ctx context.Context) ([]Product, error) {
	var rows []productRow
	err := s.db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		rows = nil
		return tx.SelectContext(ctx, &rows, productsSQL)
	})
	if err != nil {
		return nil, fmt.Errorf("catalogue: list: %w", err)
	}
	products := make([]Product, len(rows))
	for i, r := range rows {
		products[i] = r.product()
	}
	return products, nil
}

// Customers returns the customers by id, 1000 at most.
func (s *Service) Customers(ctx context.Context) ([]Customer, error) {
	var rows []customerRow
	err := s.db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		rows = nil
		return tx.SelectContext(ctx, &rows, customersSQL)
	})
	if err != nil {
		return nil, fmt.Errorf("customers: list: %w", err)
	}
	customers := make([]Customer, len(rows))
	for i, r := range rows {
		customers[i] = Customer(r)
	}
	return customers, nil
}
