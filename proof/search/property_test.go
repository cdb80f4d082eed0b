package search_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"pavane/proof/search"
)

// TestSaga_LargerCases_EndAndKeepMoneyAndStock walks what is too large to be
// searched: five orders, four products, more faults. A failure prints the seed
// that repeats it.
func TestSaga_LargerCases_EndAndKeepMoneyAndStock(t *testing.T) {
	t.Parallel()
	machines := load(t)
	rapid.Check(t, func(t *rapid.T) {
		c := drawn(t)
		m, err := search.New(machines, c)
		if err != nil {
			t.Fatal(err)
		}
		limit := rapid.IntRange(0, 120).Draw(t, "steps")
		steps, err := m.Walk(limit, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "step") })
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if len(steps) < limit {
			t.Fatalf("the walk ended after %d steps of %d: nothing could be done any more, not even ask", len(steps), limit)
		}
	})
}

func drawn(t *rapid.T) search.Config {
	c := search.Config{
		Stock: map[string]int{}, Wallets: map[string]int{},
		Duplicates: rapid.IntRange(0, 10).Draw(t, "duplicates"), Crashes: rapid.IntRange(0, 6).Draw(t, "crashes"),
		NoInbox: rapid.Bool().Draw(t, "no inbox"),
	}
	for i := range 4 {
		c.Stock[fmt.Sprintf("p%d", i)] = rapid.IntRange(0, 6).Draw(t, "stock")
	}
	for i := range 3 {
		c.Wallets[fmt.Sprintf("c%d", i)] = rapid.IntRange(0, 30).Draw(t, "wallet")
	}
	for range 5 {
		o := search.Order{Customer: fmt.Sprintf("c%d", rapid.IntRange(0, 2).Draw(t, "customer")), Price: rapid.IntRange(1, 20).Draw(t, "price")}
		for i := range 4 {
			if n := rapid.IntRange(0, 3).Draw(t, "quantity"); n > 0 {
				o.Items = append(o.Items, search.Item{SKU: fmt.Sprintf("p%d", i), Quantity: n})
			}
		}
		c.Orders = append(c.Orders, o)
	}
	return c
}
