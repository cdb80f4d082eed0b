package inventory

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/postgres"
)

// The update that changes nothing locks the row of an order that is known
// already, so one statement does for both.
const lockReservationSQL = `insert into reservations as r (order_id) values ($1)
on conflict (order_id) do update set version = r.version
returning order_id, state, items, reason, version, created_at, updated_at`

const readReservationSQL = `select order_id, state, items, reason, version, created_at, updated_at from reservations where order_id = $1`

type reservationRow struct {
	OrderID   string    `db:"order_id"`
	State     State     `db:"state"`
	Items     []byte    `db:"items"`
	Reason    string    `db:"reason"`
	Version   int64     `db:"version"`
	CreatedAt time.Time `db:"created_at"`
	UpdatedAt time.Time `db:"updated_at"`
}

func (r reservationRow) reservation() (Reservation, error) {
	made := Reservation{
		OrderID: r.OrderID, State: r.State, Reason: r.Reason, Version: r.Version,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
	if err := json.Unmarshal(r.Items, &made.Items); err != nil {
		return Reservation{}, fmt.Errorf("items of order %s: %w", r.OrderID, err)
	}
	return made, nil
}

func lockReservation(ctx context.Context, tx *sqlx.Tx, orderID string) (Reservation, error) {
	var row reservationRow
	if err := tx.GetContext(ctx, &row, lockReservationSQL, orderID); err != nil {
		return Reservation{}, fmt.Errorf("lock reservation of order %s: %w", orderID, err)
	}
	return row.reservation()
}

func readReservation(ctx context.Context, tx *sqlx.Tx, orderID string) (r Reservation, found bool, err error) {
	var row reservationRow
	switch err := tx.GetContext(ctx, &row, readReservationSQL, orderID); {
	case errors.Is(err, sql.ErrNoRows):
		return Reservation{}, false, nil
	case err != nil:
		return Reservation{}, false, fmt.Errorf("read reservation of order %s: %w", orderID, err)
	}
	r, err = row.reservation()
	return r, err == nil, err
}

const saveReservationSQL = `update reservations
set state = $2, items = $3, reason = $4, version = $5, updated_at = clock_timestamp() where order_id = $1`

func save(ctx context.Context, tx *sqlx.Tx, r Reservation) error {
	items, err := json.Marshal(r.Items)
	if err != nil {
		return fmt.Errorf("items of order %s: %w", r.OrderID, err)
	}
	if _, err := tx.ExecContext(ctx, saveReservationSQL, r.OrderID, r.State, string(items), r.Reason, r.Version); err != nil {
		return fmt.Errorf("save reservation of order %s: %w", r.OrderID, err)
	}
	return nil
}

const allStockSQL = `select sku, available, reserved, sold from stock order by sku`

// Ordered, because two orders that lock the same SKUs in different orders would
// wait for each other.
const lockStockSQL = `select sku, available from stock where sku = any($1::text[]) order by sku for no key update`

// lockStock returns what is available of those of the items' SKUs that are kept
// in stock, and keeps it so until the transaction ends.
func lockStock(ctx context.Context, tx *sqlx.Tx, items []Item) (map[string]int64, error) {
	skus, _ := columns(items)
	var rows []Stock
	if err := tx.SelectContext(ctx, &rows, lockStockSQL, postgres.Array(skus)); err != nil {
		return nil, fmt.Errorf("lock stock: %w", err)
	}
	have := make(map[string]int64, len(rows))
	for _, row := range rows {
		have[row.SKU] = row.Available
	}
	return have, nil
}

// The ledger's trigger changes the stock with each entry, in the order of the
// SKUs. Its constraints let each kind happen once per order and SKU, release
// and ship exclude each other, and both match what was reserved.
const bookSQL = `insert into stock_ledger (order_id, kind, sku, quantity)
select $1, $2, t.sku, t.quantity from unnest($3::text[], $4::bigint[]) as t (sku, quantity) order by t.sku`

func book(ctx context.Context, tx *sqlx.Tx, kind string, r Reservation) error {
	skus, quantities := columns(r.Items)
	if _, err := tx.ExecContext(ctx, bookSQL, r.OrderID, kind, postgres.Array(skus), postgres.Array(quantities)); err != nil {
		return fmt.Errorf("%s the items of order %s: %w", kind, r.OrderID, err)
	}
	return nil
}

func columns(items []Item) (skus []string, quantities []int64) {
	skus, quantities = make([]string, len(items)), make([]int64, len(items))
	for i, item := range items {
		skus[i], quantities[i] = item.SKU, item.Quantity
	}
	return skus, quantities
}

const (
	addSKUsSQL = `insert into stock (sku) select t.sku from unnest($1::text[]) as t (sku) order by t.sku on conflict do nothing`
	receiveSQL = `insert into stock_ledger (kind, reference, sku, quantity)
select 'receive', $1 || '/' || t.sku, t.sku, t.quantity from unnest($2::text[], $3::bigint[]) as t (sku, quantity)
where t.quantity > 0 order by t.sku on conflict (reference) do nothing`
)

// Receive takes goods into stock, each SKU once per reference however often it
// is called. An SKU with the quantity 0 is only made known.
func (s *Service) Receive(ctx context.Context, reference string, items []Item) error {
	skus, quantities := columns(items)
	return s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, addSKUsSQL, postgres.Array(skus)); err != nil {
			return fmt.Errorf("receive %s: add SKUs: %w", reference, err)
		}
		if _, err := tx.ExecContext(ctx, receiveSQL, reference, postgres.Array(skus), postgres.Array(quantities)); err != nil {
			return fmt.Errorf("receive %s: %w", reference, err)
		}
		return nil
	})
}
