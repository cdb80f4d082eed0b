package react_test

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/postgres"
	"pavane/shared/react"
)

// A reaction reads one kind and names every event it may return; the kit
// appends what it returns in the transaction of its changes.
func ExampleOn() {
	reserve := func(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
		if _, err := tx.ExecContext(ctx, `update stock set reserved = reserved + 1 where sku = $1`, e.ID); err != nil {
			return nil, err
		}
		return event.Number(1, told{ID: e.ID, N: 1}), nil
	}
	r := react.On(reserve, told{})
	fmt.Println(r.Kind, "->", r.Emits[0].Kind())
	// Output: test.did.v1 -> told.it.v1
}

// A reaction over many events writes them in one statement. What it returns at
// a place tells of the event at that place.
func ExampleOnBatch() {
	reserve := func(ctx context.Context, tx *sqlx.Tx, batch []did) ([][]event.Numbered, error) {
		skus, tells := make([]string, len(batch)), make([][]event.Numbered, len(batch))
		for i, e := range batch {
			skus[i], tells[i] = e.ID, event.Number(e.N, told{ID: e.ID, N: e.N})
		}
		const reserve = `update stock s set reserved = s.reserved + t.n
from (select sku, count(*) as n from unnest($1::text[]) as b (sku) group by sku) t where s.sku = t.sku`
		_, err := tx.ExecContext(ctx, reserve, postgres.Array(skus))
		return tells, err
	}
	r := react.OnBatch(reserve, told{})
	fmt.Println(r.Kind, "->", r.Emits[0].Kind())
	// Output: test.did.v1 -> told.it.v1
}

// A service checks its table of reactions before it starts.
func ExampleValidate() {
	ignore := func(context.Context, *sqlx.Tx, did) ([]event.Numbered, error) { return nil, nil }
	table := []react.Reaction{react.On(ignore), react.Origin("POST /v1/orders", told{})}
	fmt.Println(react.Validate(table, event.Topics{"test": "tests.events.v1"}))
	// Output: event kind "told.it.v1": no topic for "told"; add it to the topics of the contract
}
