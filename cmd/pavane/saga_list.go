package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pavane/shared/parked"
	"pavane/shared/postgres"
)

func sagaListCommand() *cobra.Command {
	var t target
	var older time.Duration
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the orders whose saga has not ended, and what each waits for",
		Long: `Lists orders that are not decided, and decided ones whose money or stock is not yet
where it belongs; those that nothing has happened to for longest come first. With
--older 5m these are the ones that are stuck. It reads the tables of orders,
payments, reservations and parked records one after the other, so that what goes on
meanwhile may be listed though it has ended.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 {
				return fmt.Errorf("--limit %d: want how many to list at most, from 1 on", limit)
			}
			if err := t.resolve(false, true, false); err != nil {
				return err
			}
			all, unread := loadOpen(c.Context(), t.places(), "")
			all = slices.DeleteFunc(all, func(o openSaga) bool { return o.Still < older.Seconds() })
			more := max(0, len(all)-limit)
			all = all[:len(all)-more]
			if asJSON {
				return errors.Join(printJSON(c.OutOrStdout(), all), unread)
			}
			return errors.Join(printOpen(c.OutOrStdout(), all, more), unread)
		},
	}
	t.flags(c)
	c.Flags().DurationVar(&older, "older", 0, "only those that nothing has happened to for as long")
	c.Flags().IntVar(&limit, "limit", 100, "how many at most")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// openSaga is an order whose saga has not ended.
type openSaga struct {
	Order string   `json:"order_id"`
	State string   `json:"state"` // empty: order-svc knows no such order, or cannot be asked
	Still float64  `json:"unchanged_seconds"`
	Waits []string `json:"waits_for"`
}

// fact is what one table says of an order.
type fact struct {
	Order string  `db:"order_id"`
	State string  `db:"state"`
	Age   float64 `db:"age"` // s since the last change
	Due   float64 `db:"due"` // s until the deadline; 0: there is none
}

const (
	heldSQL = `select order_id, state, extract(epoch from clock_timestamp() - updated_at)::float8 as age, 0::float8 as due
from payments where state in ('waiting', 'authorized') and ($1 = '' or order_id = $1)`
	reservedSQL = `select order_id, state, extract(epoch from clock_timestamp() - updated_at)::float8 as age, 0::float8 as due
from reservations where state = 'reserved' and ($1 = '' or order_id = $1)`
	openSQL = `select o.order_id::text, o.state, extract(epoch from clock_timestamp() - coalesce(o.decided_at, o.placed_at))::float8 as age,
  coalesce(extract(epoch from d.due_at - clock_timestamp())::float8, 0) as due
from orders o left join deadlines d on d.order_id = o.order_id
where $1 = '' and o.state = 'placed' or o.order_id = any($2::text[]::uuid[])`
)

// ledger is what all services know of orders whose saga has not ended.
type ledger struct {
	only                    string // the one order that is asked for; empty: all
	orders, payments, stock map[string]fact
	parked                  map[string][]string
}

// loadOpen lists the orders that are open, the longest unchanged first, or the one
// that is asked for, if it is. The error names the databases that could not be read.
func loadOpen(ctx context.Context, all []place, only string) ([]openSaga, error) {
	l := &ledger{only: only, orders: map[string]fact{}, payments: map[string]fact{}, stock: map[string]fact{}, parked: map[string][]string{}}
	// The orders last: one that ends meanwhile is decided by then.
	last := slices.SortedStableFunc(slices.Values(all), func(a, b place) int { return cmp.Compare(rank(a), rank(b)) })
	err := perDatabase(ctx, last, l.read)
	open := []openSaga{}
	for id := range l.known() {
		if o := l.open(id); len(o.Waits) > 0 {
			open = append(open, o)
		}
	}
	slices.SortFunc(open, func(a, b openSaga) int {
		return cmp.Or(cmp.Compare(b.Still, a.Still), cmp.Compare(a.Order, b.Order))
	})
	return open, err
}

func rank(p place) int {
	if p.service == "order-svc" {
		return 1
	}
	return 0
}

// read takes in what one service knows.
func (l *ledger) read(ctx context.Context, service string, db *postgres.DB) error {
	chosen := parked.Filter{}
	if l.only != "" {
		chosen.Key = &l.only
	}
	for k, err := range parked.Each(ctx, db, chosen) {
		if err != nil {
			return err
		}
		l.parked[k.Key] = append(l.parked[k.Key], fmt.Sprintf("parked in %s: %s: %s", service, k.Cause, k.Reason))
	}
	switch service {
	case "payment-svc":
		return load(ctx, db, l.payments, heldSQL, l.only)
	case "inventory-svc":
		return load(ctx, db, l.stock, reservedSQL, l.only)
	case "order-svc":
		ids := slices.DeleteFunc(slices.Collect(maps.Keys(l.known())), func(id string) bool { return !orderID.MatchString(id) })
		return load(ctx, db, l.orders, openSQL, l.only, postgres.Array(ids))
	}
	return nil
}

// orderID fits what order-svc gives out; keys that are parked may be anything.
var orderID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func load(ctx context.Context, db *postgres.DB, into map[string]fact, query string, args ...any) error {
	var facts []fact
	if err := db.Select(ctx, &facts, query, args...); err != nil {
		return err
	}
	for _, f := range facts {
		into[f.Order] = f
	}
	return nil
}

// known are the orders of which anybody says something.
func (l *ledger) known() map[string]bool {
	ids := map[string]bool{}
	for _, of := range []map[string]fact{l.orders, l.payments, l.stock} {
		for id := range of {
			ids[id] = true
		}
	}
	for id := range l.parked {
		ids[id] = true
	}
	if l.only != "" {
		ids[l.only] = true
	}
	return ids
}

// open says what an order waits for; nothing: its saga has ended.
func (l *ledger) open(id string) openSaga {
	o := openSaga{Order: id, State: l.orders[id].State, Still: -1}
	for _, of := range []map[string]fact{l.orders, l.payments, l.stock} {
		if f, ok := of[id]; ok && (o.Still < 0 || f.Age < o.Still) {
			o.Still = f.Age
		}
	}
	o.Still = max(o.Still, 0)
	_, reserved := l.stock[id]
	o.Waits = append(steps(o.State, l.payments[id].State, reserved), l.parked[id]...)
	if due := l.orders[id].Due; due != 0 {
		o.Waits = append(o.Waits, "its deadline "+fromNow(due))
	}
	return o
}

// steps are those of the saga that an order has before it, as far as the services
// do not wait for each other.
func steps(order, payment string, reserved bool) (todo []string) {
	held, stock := "", ""
	switch order {
	case "placed":
		switch {
		case !reserved:
			return []string{"inventory-svc to reserve the stock"}
		case payment != "authorized":
			return []string{"payment-svc to authorise the payment"}
		}
		return []string{"order-svc to confirm"}
	case "confirmed":
		held, stock = "payment-svc to capture the payment", "inventory-svc to ship the stock"
	case "cancelled":
		held, stock = "payment-svc to void the payment", "inventory-svc to release the stock"
		if payment == "waiting" {
			held = "payment-svc to hear of the cancellation"
		}
	default:
		held, stock = "order-svc, for a payment", "order-svc, for reserved stock"
	}
	if payment != "" {
		todo = append(todo, held)
	}
	if reserved {
		todo = append(todo, stock)
	}
	return todo
}

// fromNow says when something is that comes in so many seconds, or came.
func fromNow(s float64) string {
	d := time.Duration(s * float64(time.Second)).Round(time.Second)
	if d < 0 {
		return fmt.Sprintf("was %s ago", -d)
	}
	return fmt.Sprintf("is in %s", d)
}

func printOpen(w io.Writer, all []openSaga, more int) error {
	if len(all) == 0 {
		fmt.Fprintln(w, "no saga is open")
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "order\tstate\tunchanged for\twaits for")
	for _, o := range all {
		still := time.Duration(o.Still * float64(time.Second)).Round(100 * time.Millisecond)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", o.Order, orElse(o.State, "unknown"), still, strings.Join(o.Waits, "; "))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	if more > 0 {
		fmt.Fprintf(w, "… and %d more; see --limit\n", more)
	}
	return nil
}
