package order

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"pavane/shared/contract"
	"pavane/shared/fault"
	"pavane/shared/postgres"
)

const columns = `order_id, customer_id, email, state, coalesce(reason, '') as reason, detail, items, total, currency,
  payment_method, version, placed_at, decided_at, captured_at is not null as captured, voided_at is not null as voided,
  shipped_at is not null as shipped, released_at is not null as released`

const (
	// An order is found by its owner, or by anybody when $2 is empty.
	getSQL  = `select ` + columns + ` from orders where order_id = $1 and ($2 = '' or customer_id = $2)`
	lockSQL = getSQL + ` for update`

	decidedSQL = `select order_id from orders where order_id = any($1::uuid[]) and state <> 'placed'`

	insertSQL = `with placed as (
  insert into orders (order_id, customer_id, email, items, total, currency, payment_method)
  values ($1, $2, $3, $4, $5, $6, $7) returning order_id, placed_at
), due as (
  insert into deadlines (order_id, due_at, try_at)
  select p.order_id, d.at, d.at from placed p, lateral (select p.placed_at + $8 * interval '1 microsecond' as at) d
) select placed_at from placed`

	// saveSQL holds the version against a writer that did not lock the row. The
	// decision takes the deadline away with it.
	saveSQL = `with decided as (
  delete from deadlines where order_id = $1 and $3 <> 'placed'
) update orders set state = $3, reason = nullif($4, ''), detail = $5, version = $6,
  decided_at = case when $3 <> 'placed' then coalesce(decided_at, clock_timestamp()) end,
  captured_at = case when $7 then coalesce(captured_at, clock_timestamp()) end,
  voided_at = case when $8 then coalesce(voided_at, clock_timestamp()) end,
  shipped_at = case when $9 then coalesce(shipped_at, clock_timestamp()) end,
  released_at = case when $10 then coalesce(released_at, clock_timestamp()) end
where order_id = $1 and version = $2 returning decided_at`

	listSQL      = `select ` + columns + ` from orders where order_id < $1 order by order_id desc limit $2`
	listStateSQL = `select ` + columns + ` from orders where state = $3 and order_id < $1 order by order_id desc limit $2`

	listOwnSQL      = `select ` + columns + ` from orders where customer_id = $3 and order_id < $1 order by order_id desc limit $2`
	listOwnStateSQL = `select ` + columns + ` from orders where customer_id = $3 and state = $4 and order_id < $1 order by order_id desc limit $2`

	claimSQL = `insert into idempotency (customer_id, key, body_hash, order_id) values ($1, $2, $3, $4) on conflict do nothing`
	heldSQL  = `select body_hash, order_id from idempotency where customer_id = $1 and key = $2`

	customerSQL  = `select customer_id, name, email from customers where customer_id = $1`
	customersSQL = `select customer_id, name, email from customers order by customer_id limit 1000`
	pricesSQL    = `select sku, name, price, currency from products where sku = any($1)`
	productsSQL  = `select sku, name, price, currency from products order by sku limit 1000`

	deadlineSQL = `select d.due_at from deadlines d join orders o using (order_id) where d.order_id = $1 and ($2 = '' or o.customer_id = $2)`
	// strayed holds for a deadline that lies further off than any is long, or an
	// attempt further off than any pause: a clock that has gone back since put it
	// there.
	strayed = `try_at > clock_timestamp() + case attempts when 0 then $2 * interval '1 microsecond' else interval '300 seconds' end`
	dueSQL  = `select order_id, ` + strayed + ` as strayed from deadlines where try_at <= clock_timestamp() or ` + strayed + ` order by try_at limit $1`
	// rearmSQL counts the whole deadline anew, or has the attempt made soon. Both
	// times come from one reading of the clock: a fresh deadline is tried when due.
	rearmSQL = `update deadlines set due_at = case attempts when 0 then statement_timestamp() + $2 * interval '1 microsecond' else due_at end,
  try_at = statement_timestamp() + case attempts when 0 then $2 * interval '1 microsecond' else interval '1 second' end
where order_id in (select order_id from deadlines where order_id = $1 and ` + strayed + ` for update skip locked)`
	fireSQL     = getSQL + ` for update skip locked`
	clearSQL    = `delete from deadlines where order_id = $1`
	postponeSQL = `update deadlines set attempts = attempts + 1,
  try_at = clock_timestamp() + least(power(2, least(attempts, 10)), 300) * interval '1 second'
where order_id in (select order_id from deadlines where order_id = $1 for update skip locked)`
)

// newest is where a listing without a cursor begins: above every UUID of version 7.
const newest = "ffffffff-ffff-ffff-ffff-ffffffffffff"

type orderRow struct {
	ID            string     `db:"order_id"`
	CustomerID    string     `db:"customer_id"`
	Email         string     `db:"email"`
	State         State      `db:"state"`
	Reason        Reason     `db:"reason"`
	Detail        string     `db:"detail"`
	Items         []byte     `db:"items"`
	Total         int64      `db:"total"`
	Currency      string     `db:"currency"`
	PaymentMethod string     `db:"payment_method"`
	Version       int64      `db:"version"`
	PlacedAt      time.Time  `db:"placed_at"`
	DecidedAt     *time.Time `db:"decided_at"`
	Captured      bool       `db:"captured"`
	Voided        bool       `db:"voided"`
	Shipped       bool       `db:"shipped"`
	Released      bool       `db:"released"`
}

func (r orderRow) order() (Order, error) {
	o := Order{
		ID: r.ID, CustomerID: r.CustomerID, Email: r.Email, State: r.State, Reason: r.Reason, Detail: r.Detail,
		Total: contract.Money{Amount: r.Total, Currency: r.Currency}, PaymentMethod: r.PaymentMethod,
		Version: r.Version, PlacedAt: r.PlacedAt, DecidedAt: r.DecidedAt,
		Effects: Effects{Captured: r.Captured, Voided: r.Voided, Shipped: r.Shipped, Released: r.Released},
	}
	if err := json.Unmarshal(r.Items, &o.Items); err != nil {
		return Order{}, fmt.Errorf("order %s: items: %w", r.ID, err)
	}
	return o, nil
}

// isID tells whether text may be an order id. The database would take more forms
// of a UUID than this one, and answer with an error to the rest.
func isID(text string) bool { return len(text) == len(newest) && uuid.Validate(text) == nil }

// getter reads one row: in a transaction, or alone.
type getter func(ctx context.Context, dest any, query string, args ...any) error

// load reads one order of owner with one of the statements that start with
// getSQL. Without a row, or with an id that is no UUID, it is a NotFound fault.
func load(ctx context.Context, from getter, query, id string, owner Owner) (Order, error) {
	if !isID(id) {
		return Order{}, fault.NotFound("there is no order %.80q: order ids are UUIDs", id)
	}
	var r orderRow
	err := from(ctx, &r, query, id, string(owner))
	if errors.Is(err, sql.ErrNoRows) {
		return Order{}, fault.NotFound("there is no order %s", id)
	}
	if err != nil {
		return Order{}, fmt.Errorf("order %s: read: %w", id, err)
	}
	return r.order()
}

// insert writes a new order and its deadline, which is counted from the
// database's own clock, and returns when the order was placed.
func insert(ctx context.Context, tx *sqlx.Tx, o Order, deadline time.Duration) (placedAt time.Time, err error) {
	items, err := json.Marshal(o.Items)
	if err != nil {
		return placedAt, fmt.Errorf("order %s: items: %w", o.ID, err)
	}
	err = tx.GetContext(ctx, &placedAt, insertSQL, o.ID, o.CustomerID, o.Email, string(items), o.Total.Amount, o.Total.Currency,
		o.PaymentMethod, deadline.Microseconds())
	if err != nil {
		return placedAt, fmt.Errorf("order %s: insert: %w", o.ID, err)
	}
	return placedAt, nil
}

// save writes the changed order over the one with version before.
func save(ctx context.Context, tx *sqlx.Tx, before int64, o Order) (decidedAt *time.Time, err error) {
	err = tx.GetContext(ctx, &decidedAt, saveSQL, o.ID, before, string(o.State), string(o.Reason), o.Detail, o.Version,
		o.Effects.Captured, o.Effects.Voided, o.Effects.Shipped, o.Effects.Released)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.Unavailable("order %s: version %d is not there any more; somebody wrote without the lock", o.ID, before)
	}
	if err != nil {
		return nil, fmt.Errorf("order %s: save: %w", o.ID, err)
	}
	return decidedAt, nil
}

// claim takes the request's key for order id. It returns "" when the key is
// now taken for it, or the order that the same request made before. A concurrent
// holder of the key is waited for.
func claim(ctx context.Context, tx *sqlx.Tx, r Request, hash []byte, id string) (before string, err error) {
	res, err := tx.ExecContext(ctx, claimSQL, r.CustomerID, r.IdempotencyKey, hash, id)
	if err != nil {
		return "", fmt.Errorf("order: claim the idempotency key: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return "", err
	}
	before, err = holder(ctx, tx, r, hash)
	if errors.Is(err, sql.ErrNoRows) { // its day was over just now
		return claim(ctx, tx, r, hash, id)
	}
	return before, err
}

// holder returns the order that a request's key is taken for.
func holder(ctx context.Context, tx *sqlx.Tx, r Request, hash []byte) (string, error) {
	var held struct {
		Hash    []byte `db:"body_hash"`
		OrderID string `db:"order_id"`
	}
	if err := tx.GetContext(ctx, &held, heldSQL, r.CustomerID, r.IdempotencyKey); err != nil {
		return "", fmt.Errorf("order: read the idempotency key: %w", err)
	}
	if string(held.Hash) != string(hash) {
		return "", fault.Invalid("this Idempotency-Key was used with another request: send a new key for a new order")
	}
	return held.OrderID, nil
}

// customer returns the customer of a request.
func customer(ctx context.Context, tx *sqlx.Tx, id string) (Customer, error) {
	var r customerRow
	err := tx.GetContext(ctx, &r, customerSQL, id)
	if errors.Is(err, sql.ErrNoRows) {
		return Customer{}, fault.Invalid("there is no customer %s: take a customer_id of GET /v1/customers", id)
	}
	if err != nil {
		return Customer{}, fmt.Errorf("customer %s: read: %w", id, err)
	}
	return Customer(r), nil
}

type customerRow struct {
	ID    string `db:"customer_id"`
	Name  string `db:"name"`
	Email string `db:"email"`
}

type productRow struct {
	SKU      string `db:"sku"`
	Name     string `db:"name"`
	Price    int64  `db:"price"`
	Currency string `db:"currency"`
}

func (r productRow) product() Product {
	return Product{SKU: r.SKU, Name: r.Name, Price: contract.Money{Amount: r.Price, Currency: r.Currency}}
}

// prices returns those of the products that exist.
func prices(ctx context.Context, tx *sqlx.Tx, skus []string) (map[string]Product, error) {
	var rows []productRow
	if err := tx.SelectContext(ctx, &rows, pricesSQL, postgres.Array(skus)); err != nil {
		return nil, fmt.Errorf("catalogue: read: %w", err)
	}
	products := make(map[string]Product, len(rows))
	for _, r := range rows {
		products[r.SKU] = r.product()
	}
	return products, nil
}
