package audit

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/jmoiron/sqlx"

	"pavane/shared/contract"
)

const (
	ordersSQL = `select o.order_id::text, o.customer_id, o.state, coalesce(o.reason, ''), o.total, o.currency, o.items, o.version,
  o.placed_at, o.decided_at, d.due_at, o.captured_at is not null, o.voided_at is not null, o.shipped_at is not null, o.released_at is not null
from orders o left join deadlines d on d.order_id = o.order_id`

	paymentsSQL  = `select order_id, state, method, version, amount from payments`
	chargesSQL   = `select order_id, wanted, known from charges`
	movedSQL     = `select t.order_id, t.kind, e.amount from transfers t join entries e on e.transfer_id = t.transfer_id and e.leg = 2 where t.order_id is not null`
	accountsSQL  = `select a.account_id, a.kind, a.currency, a.balance, coalesce(sum(e.amount), 0)::bigint from accounts a left join entries e on e.account_id = a.account_id group by a.account_id order by a.account_id`
	transfersSQL = `select t.transfer_id, t.kind, coalesce(t.order_id, ''), coalesce(sum(e.amount), 0)::bigint, count(e.amount)
from transfers t left join entries e on e.transfer_id = t.transfer_id group by t.transfer_id having coalesce(sum(e.amount), 0) <> 0 or count(e.amount) <> 2 order by t.transfer_id`

	reservationsSQL = `select order_id, state, version from reservations`
	ledgerSQL       = `select order_id, kind, sku, quantity from stock_ledger where order_id is not null`
	stockSQL        = `select s.sku, s.available, s.reserved, s.sold,
  coalesce(sum(l.quantity) filter (where l.kind = 'receive'), 0)::bigint,
  coalesce(sum(case l.kind when 'reserve' then l.quantity when 'release' then -l.quantity when 'ship' then -l.quantity end), 0)::bigint,
  coalesce(sum(l.quantity) filter (where l.kind = 'ship'), 0)::bigint,
  coalesce(sum(l.quantity) filter (where l.kind = 'reserve' and r.state = 'reserved'), 0)::bigint
from stock s left join stock_ledger l on l.sku = s.sku left join reservations r on r.order_id = l.order_id group by s.sku order by s.sku`

	mailsSQL = `select order_id, kind, state from mails`
)

func loadOrders(ctx context.Context, tx *sqlx.Tx, d *Data) error {
	return each(ctx, tx, "orders", ordersSQL, func(rows *sqlx.Rows) error {
		var o Order
		var items []byte
		var decided, due sql.NullTime
		var captured, voided, shipped, released bool
		err := rows.Scan(&o.ID, &o.CustomerID, &o.State, &o.Reason, &o.Total, &o.Currency, &items, &o.Version,
			&o.Placed, &decided, &due, &captured, &voided, &shipped, &released)
		if err != nil || !d.share.has(o.ID) {
			return err
		}
		var lines []contract.Item
		if err := json.Unmarshal(items, &lines); err != nil {
			return fmt.Errorf("items of %s: %w", o.ID, err)
		}
		o.Items = map[string]int64{}
		for _, l := range lines {
			o.Items[l.SKU] += l.Quantity
		}
		d.same(&o.ID)
		d.same(&o.CustomerID)
		d.same(&o.State)
		d.same(&o.Currency)
		o.Decided, o.Due = decided.Time, due.Time
		o.Noted = map[string]bool{"captured": captured, "voided": voided, "shipped": shipped, "released": released}
		d.Orders[o.ID] = o
		return nil
	})
}

func loadPayments(ctx context.Context, tx *sqlx.Tx, d *Data) error {
	err := each(ctx, tx, "payments", paymentsSQL, func(rows *sqlx.Rows) error {
		p := Payment{Moved: map[string]int64{}}
		err := rows.Scan(&p.OrderID, &p.State, &p.Method, &p.Version, &p.Amount)
		if !d.share.has(p.OrderID) {
			return err
		}
		d.same(&p.OrderID)
		d.same(&p.State)
		d.same(&p.Method)
		d.Payments[p.OrderID] = p
		return err
	})
	if err != nil {
		return err
	}
	err = each(ctx, tx, "charges", chargesSQL, func(rows *sqlx.Rows) error {
		var c Charge
		err := rows.Scan(&c.OrderID, &c.Wanted, &c.Known)
		if d.share.has(c.OrderID) {
			d.Charges[c.OrderID] = c
		}
		return err
	})
	if err != nil {
		return err
	}
	err = each(ctx, tx, "transfers", movedSQL, func(rows *sqlx.Rows) error {
		var order, kind string
		var amount int64
		err := rows.Scan(&order, &kind, &amount)
		if p, known := d.Payments[order]; known {
			p.Moved[kind] += amount
		}
		return err
	})
	if err != nil || !d.share.first() {
		return err
	}
	err = each(ctx, tx, "accounts", accountsSQL, func(rows *sqlx.Rows) error {
		var a Account
		err := rows.Scan(&a.ID, &a.Kind, &a.Currency, &a.Balance, &a.Entries)
		d.Accounts = append(d.Accounts, a)
		return err
	})
	if err != nil {
		return err
	}
	return each(ctx, tx, "entries", transfersSQL, func(rows *sqlx.Rows) error {
		var t Transfer
		err := rows.Scan(&t.ID, &t.Kind, &t.Order, &t.Sum, &t.Legs)
		d.Transfers = append(d.Transfers, t)
		return err
	})
}

func loadInventory(ctx context.Context, tx *sqlx.Tx, d *Data) error {
	err := each(ctx, tx, "reservations", reservationsSQL, func(rows *sqlx.Rows) error {
		r := Reservation{Moved: map[string]map[string]int64{}}
		err := rows.Scan(&r.OrderID, &r.State, &r.Version)
		if !d.share.has(r.OrderID) {
			return err
		}
		d.same(&r.OrderID)
		d.same(&r.State)
		d.Reservations[r.OrderID] = r
		return err
	})
	if err != nil {
		return err
	}
	err = each(ctx, tx, "stock_ledger", ledgerSQL, func(rows *sqlx.Rows) error {
		var order, kind, sku string
		var quantity int64
		if err := rows.Scan(&order, &kind, &sku, &quantity); err != nil {
			return err
		}
		r, known := d.Reservations[order]
		if !known {
			return nil // of another share: a foreign key forbids anything else
		}
		if r.Moved[kind] == nil {
			r.Moved[kind] = map[string]int64{}
		}
		r.Moved[kind][sku] += quantity
		return nil
	})
	if err != nil || !d.share.first() {
		return err
	}
	return each(ctx, tx, "stock", stockSQL, func(rows *sqlx.Rows) error {
		var s Stock
		err := rows.Scan(&s.SKU, &s.Available, &s.Reserved, &s.Sold, &s.Received, &s.LedgerReserved, &s.Ships, &s.Open)
		d.Stock = append(d.Stock, s)
		return err
	})
}

func loadMails(ctx context.Context, tx *sqlx.Tx, d *Data) error {
	return each(ctx, tx, "mails", mailsSQL, func(rows *sqlx.Rows) error {
		var m Mail
		err := rows.Scan(&m.OrderID, &m.Kind, &m.State)
		if !d.share.has(m.OrderID) {
			return err
		}
		d.same(&m.OrderID)
		d.same(&m.Kind)
		d.same(&m.State)
		if d.Mails[m.OrderID] == nil {
			d.Mails[m.OrderID] = map[string]Mail{}
		}
		d.Mails[m.OrderID][m.Kind] = m
		return err
	})
}
