package order

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"pavane/shared/postgres"
)

const (
	seedProductsSQL = `insert into products (sku, name, price, currency)
select p.sku, p.name, p.price, 'EUR' from unnest($1::text[], $2::text[], $3::bigint[]) as p (sku, name, price)
on conflict do nothing`
	seedCustomersSQL = `insert into customers (customer_id, name, email)
select c.id, c.name, c.id || '@example.test' from unnest($1::text[], $2::text[]) as c (id, name)
on conflict do nothing`
)

// Seed fills an empty catalogue and the list of customers for the demo. The
// other services seed stock and wallets for the same names. What is there
// already stays as it is.
func (s *Service) Seed(ctx context.Context) error {
	return s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		skus, names, prices := demoProducts()
		if _, err := tx.ExecContext(ctx, seedProductsSQL, postgres.Array(skus), postgres.Array(names), postgres.Array(prices)); err != nil {
			return fmt.Errorf("seed the catalogue: %w", err)
		}
		ids, people := demoCustomers()
		if _, err := tx.ExecContext(ctx, seedCustomersSQL, postgres.Array(ids), postgres.Array(people)); err != nil {
			return fmt.Errorf("seed the customers: %w", err)
		}
		return nil
	})
}

func demoProducts() (skus, names []string, prices []int64) {
	for _, p := range []struct {
		sku, name string
		price     int64 // cents
	}{
		{"tea-green", "Green tea, 100 g", 690},
		{"tea-black", "Black tea, 100 g", 590},
		{"mug-red", "Mug, red", 1250},
		{"mug-blue", "Mug, blue", 1250},
		{"pot-cast", "Teapot, cast iron", 6900},
		{"kettle", "Kettle", 4500},
		{"honey", "Honey, 250 g", 750},
		{"biscuits", "Butter biscuits", 420},
		{"tray", "Serving tray", 1990},
		{"whisk", "Bamboo whisk", 1590},
		{"tin", "Tea tin", 890},
		{"gift-card", "Gift card", 2500},
	} {
		skus, names, prices = append(skus, p.sku), append(names, p.name), append(prices, p.price)
	}
	return skus, names, prices
}

// demoCustomers are cust-01 to cust-20; the last one's wallet is empty.
func demoCustomers() (ids, names []string) {
	names = []string{
		"Ada Aldwin", "Ben Bright", "Cleo Carter", "Dan Doyle", "Eva Ekberg", "Finn Farrow", "Gia Grant", "Hugo Hale", "Ida Irving", "Jon Jansen",
		"Kim Keller", "Lea Lund", "Max Moreau", "Nia Novak", "Ole Olsen", "Pia Porter", "Quinn Quist", "Rui Ramos", "Sia Stone", "Penny Less",
	}
	for i := range names {
		ids = append(ids, fmt.Sprintf("cust-%02d", i+1))
	}
	return ids, names
}
