package smoke

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/cmd/pavane/internal/client"
	"pavane/shared/event"
	"pavane/shared/postgres"
)

// A consumer begins every batch with a lock on its rows in inbox_offset. While
// the table is locked it waits, and everything else of the service goes on.
const holdSQL = `lock table inbox_offset in exclusive mode`

const publishedSQL = `select exists (select from outbox where key = $1 and type like $2 || '.v%')`

const askedSQL = `select exists (select from charges where order_id = $1 and sent)`

// expireSQL lets the time pass until an order's deadline.
const expireSQL = `update deadlines set due_at = clock_timestamp(), try_at = clock_timestamp() where order_id::text = $1`

// rowsSQL counts every row that a refused order could leave.
const rowsSQL = `select (select count(*) from outbox) + (select count(*) from orders) + (select count(*) from idempotency) + (select count(*) from deadlines)`

// poll is the pause between two looks into a database.
const poll = 10 * time.Millisecond

// open is a pool for one database.
func (r *runner) open(database string) (*postgres.DB, error) { return open(r.databases[database]) }

func open(url string) (*postgres.DB, error) {
	return postgres.Open(postgres.Config{URL: url, MaxConns: 1, Name: "pavane-smoke"})
}

// hold keeps the consumers of the services back that own the databases, until
// release is called; more than once is fine.
func (r *runner) hold(ctx context.Context, databases ...string) (release func(), err error) {
	var undo []func()
	release = sync.OnceFunc(func() {
		for _, f := range undo {
			f()
		}
	})
	for _, name := range databases {
		db, err := r.open(name)
		if err != nil {
			release()
			return nil, err
		}
		undo = append(undo, func() { db.Close() }) //nolint:errcheck // the lock ends with the connection in any case
		tx, err := db.SQL().BeginTx(ctx, nil)
		if err != nil {
			release()
			return nil, fmt.Errorf("hold %s back: %w", name, err)
		}
		undo = append([]func(){func() { tx.Rollback() }}, undo...) //nolint:errcheck // it changed nothing
		if _, err := tx.ExecContext(ctx, holdSQL); err != nil {
			release()
			return nil, fmt.Errorf("hold %s back: %w", name, err)
		}
	}
	return release, nil
}

// published waits until the event of that kind is committed about the order.
func (r *runner) published(ctx context.Context, id, kind string) error {
	word, _, _ := strings.Cut(kind, ".")
	database := map[string]string{"order": "orders", "payment": "payments", "inventory": "inventory"}[word]
	return r.awaitRow(ctx, database, kind+" of order "+id, publishedSQL, id, kind)
}

// asked waits until the provider is being asked to hold the order's money.
func (r *runner) asked(ctx context.Context, id string) error {
	return r.awaitRow(ctx, "payments", "a request to the provider for order "+id, askedSQL, id)
}

// awaitRow waits until the query says true.
func (r *runner) awaitRow(ctx context.Context, database, what, query string, args ...any) error {
	db, err := r.open(database)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // it was only read
	for {
		var there bool
		err := db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return tx.GetContext(ctx, &there, query, args...) })
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if there {
			return nil
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return fmt.Errorf("%s did not come: %w", what, ctx.Err())
		}
	}
}

// change changes one row, which must be there.
func (r *runner) change(ctx context.Context, database, what, query string, args ...any) error {
	db, err := r.open(database)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // what was to be kept is committed
	res, err := db.SQL().ExecContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("change %s: %w", what, err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("%s is not there: the order was decided before", what)
	}
	return nil
}

// rows counts what is in the order service's tables.
func (r *runner) rows(ctx context.Context) (n int64, err error) {
	db, err := r.open("orders")
	if err != nil {
		return 0, err
	}
	defer db.Close() //nolint:errcheck // it was only read
	err = db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return tx.GetContext(ctx, &n, rowsSQL) })
	return n, err
}

// badInputs are orders that must be refused.
func badInputs() map[string]string {
	order := func(items string) string { return `{"customer_id":"` + wealthy + `","items":[` + items + `]}` }
	return map[string]string{
		"no JSON":                    `{"customer_id"`,
		"unknown field":              `{"customer_id":"cust-01","items":[{"sku":"tin","quantity":1}],"status":"confirmed"}`,
		"price from outside":         order(`{"sku":"tin","quantity":1,"unit_price":1}`),
		"no items":                   order(``),
		"quantity 0":                 order(`{"sku":"tin","quantity":0}`),
		"quantity -1":                order(`{"sku":"tin","quantity":-1}`),
		"quantity over int64":        order(`{"sku":"tin","quantity":9223372036854775808}`),
		"quantity 1.5":               order(`{"sku":"tin","quantity":1.5}`),
		"unknown product":            order(`{"sku":"no-such-thing","quantity":1}`),
		"unknown customer":           `{"customer_id":"nobody","items":[{"sku":"tin","quantity":1}]}`,
		"foreign currency":           `{"customer_id":"cust-01","currency":"XXX","items":[{"sku":"tin","quantity":1}]}`,
		"unknown payment":            `{"customer_id":"cust-01","payment_method":"barter","items":[{"sku":"tin","quantity":1}]}`,
		"card without a token":       `{"customer_id":"cust-01","payment_method":"card","items":[{"sku":"tin","quantity":1}]}`,
		"card number":                `{"customer_id":"cust-01","payment_method":"card","card_token":"tok_4111111111111111","items":[{"sku":"tin","quantity":1}]}`,
		"token without card":         `{"customer_id":"cust-01","card_token":"tok_ok","items":[{"sku":"tin","quantity":1}]}`,
		"body over the limit":        order(`{"sku":"` + strings.Repeat("x", 2<<20) + `","quantity":1}`),
		"customer of the wrong type": `{"customer_id":7,"items":[{"sku":"tin","quantity":1}]}`,
	}
}

// refused sends bad orders; each must get a problem that says something, and
// leave nothing.
func (r *runner) refused(ctx context.Context, want string) (string, error) {
	before, err := r.rows(ctx)
	if err != nil {
		return "", err
	}
	for name, body := range badInputs() {
		a, err := r.gateway.Do(ctx, http.MethodPost, "/v1/orders", []byte(body), "Idempotency-Key", event.NewID())
		if err != nil {
			return name, err
		}
		if complaint := complain(a); complaint != "" {
			return name + ": " + complaint, nil
		}
	}
	good := client.Body(wealthy, client.Item{SKU: "tin", Quantity: 1})
	for _, headers := range [][]string{
		{"Content-Type", "text/plain", "Idempotency-Key", event.NewID()},
		{"Idempotency-Key", strings.Repeat("k", 300)},
		{"Idempotency-Key", "not\tvisible"},
	} {
		a, err := r.gateway.Do(ctx, http.MethodPost, "/v1/orders", good, headers...)
		if err != nil {
			return headers[0], err
		}
		if complaint := complain(a); complaint != "" {
			return headers[0] + ": " + headers[1][:min(len(headers[1]), 20)] + ": " + complaint, nil
		}
	}
	after, err := r.rows(ctx)
	if err != nil {
		return "", err
	}
	if after != before {
		return fmt.Sprintf("%d rows were left", after-before), nil
	}
	return want, nil
}

// complain says what is wrong with the refusal of a bad request.
func complain(a client.Answer) string {
	switch {
	case a.Status < 400 || a.Status > 499:
		return "answered " + a.Text()
	case !strings.HasPrefix(a.Header.Get("Content-Type"), "application/problem+json"):
		return "answered " + a.Header.Get("Content-Type")
	case !strings.Contains(string(a.Body), `"detail"`):
		return "does not say what to mend: " + a.Text()
	}
	return ""
}
