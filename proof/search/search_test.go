package search_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"pavane/proof/search"
)

func load(t testing.TB) []search.Machine {
	t.Helper()
	machines, err := search.Load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	return machines
}

func loadCard(t testing.TB) []search.Machine {
	t.Helper()
	machines, err := search.LoadCard(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	return machines
}

func items(skus ...string) []search.Item {
	all := make([]search.Item, len(skus))
	for i, sku := range skus {
		all[i] = search.Item{SKU: sku, Quantity: 1}
	}
	return all
}

// scenario is two orders over two products, both paid by one wallet.
func scenario(x, y, wallet int, a, b []search.Item) search.Config {
	return search.Config{
		Orders:  []search.Order{{Customer: "c", Price: 1, Items: a}, {Customer: "c", Price: 1, Items: b}},
		Stock:   map[string]int{"x": x, "y": y},
		Wallets: map[string]int{"c": wallet},
	}
}

func run(t testing.TB, machines []search.Machine, c search.Config) search.Report {
	t.Helper()
	m, err := search.New(machines, c)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Search()
	if err != nil {
		t.Errorf("%+v: %v", c, err)
	}
	return r
}

// TestSaga_EveryInterleaving_EndsAndKeepsMoneyAndStock is the search: complete for
// two orders of two products with two duplicates and two crashes at any point,
// customers who cancel and deadlines that fire at any time.
func TestSaga_EveryInterleaving_EndsAndKeepsMoneyAndStock(t *testing.T) {
	machines := load(t)
	var states, steps int
	for _, s := range []struct {
		name string
		search.Config
	}{
		{"both want the last piece", scenario(1, 0, 2, items("x"), items("x"))},
		{"both share a product, the wallet pays one", scenario(1, 1, 1, items("x", "y"), items("y"))},
		{"the wallet pays one", scenario(2, 2, 1, items("x", "y"), items("x", "y"))},
		{"there is enough", scenario(2, 2, 2, items("x", "y"), items("x", "y"))},
		{"there is nothing", scenario(0, 1, 2, items("x", "y"), items("x"))},
	} {
		for _, inbox := range []bool{true, false} {
			s.NoInbox, s.Duplicates, s.Crashes = !inbox, 2, crashes
			if !inbox { // the functions alone hold out, too, which is more than they must
				s.Crashes = 1
			}
			r := run(t, machines, s.Config)
			t.Logf("%-42s inbox %-5t %s", s.name, inbox, r)
			states, steps = states+r.States, steps+r.Steps
		}
	}
	t.Logf("%d states, %d steps", states, steps)
	if states < 9_000_000 && crashes == 2 {
		t.Errorf("%d states are too few to be all", states)
	}
}

// TestSaga_PaidByCard_EveryInterleavingEndsAndNothingStaysHeld is the search with
// payment by card: the provider answers at any time, also after the cancellation,
// holds or refuses as it likes.
func TestSaga_PaidByCard_EveryInterleavingEndsAndNothingStaysHeld(t *testing.T) {
	t.Parallel()
	machines := loadCard(t)
	for _, s := range []struct {
		name string
		search.Config
	}{
		{"both want the last piece", scenario(1, 0, 2, items("x"), items("x"))},
		{"there is enough", scenario(2, 2, 2, items("x", "y"), items("x", "y"))},
	} {
		for _, inbox := range []bool{true, false} {
			s.NoInbox, s.Duplicates, s.Crashes = !inbox, 1, 1
			r := run(t, machines, s.Config)
			t.Logf("%-26s inbox %-5t %s", s.name, inbox, r)
			if r.Ends == 0 {
				t.Errorf("%s: no order came to an end", s.name)
			}
		}
	}
}

// TestControls_EachRowOfACardPaymentMadeWorse_IsFound does to the rows in which a
// provider answers, or is waited for, what mutants_test.go does to all of the
// others.
func TestControls_EachRowOfACardPaymentMadeWorse_IsFound(t *testing.T) {
	t.Parallel()
	mutants := 0
	for _, s := range loadCard(t)[2].States {
		for _, row := range s.Rows {
			if !strings.Contains(s.Name+row.To, "(") || row.To == "refused placed reserved (void, refused)" {
				continue // as by wallet; and what the provider refused it need not say
			}
			for what, mutant := range mutantsOf(row) {
				mutants++
				machines := loadCard(t)
				// A provider that can only refuse is a sound one.
				sound := row.On == "provider.held" && row.Emits != "" && what == "forgotten"
				if worse(t, machines, "payment-svc", s.Name, mutant); found(t, machines) == sound {
					t.Errorf("%s, %s: %s: found is %t", s.Name, row.On, what, sound)
				}
			}
		}
	}
	t.Logf("%d mutants", mutants)
}

// TestSaga_EveryStart_EndsAndKeepsMoneyAndStock takes every mix of orders, stock
// and wallet there is with two products, with duplicates and without crashes.
func TestSaga_EveryStart_EndsAndKeepsMoneyAndStock(t *testing.T) {
	t.Parallel()
	machines := load(t)
	mixes := [][]search.Item{items("x"), items("y"), items("x", "y")}
	starts, states := 0, 0
	for n := range 3 * 3 * 3 * len(mixes) * len(mixes) {
		c := scenario(n%3, n/3%3, n/9%3, mixes[n/27%3], mixes[n/81])
		c.Duplicates = 2
		starts, states = starts+1, states+run(t, machines, c).States
	}
	t.Logf("%d starts, %d states", starts, states)
}

// violation searches a saga that was made worse, and wants it to be found.
func violation(t *testing.T, machines []search.Machine, c search.Config) *search.Violation {
	t.Helper()
	m, err := search.New(machines, c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Search()
	var v *search.Violation
	if !errors.As(err, &v) {
		t.Fatalf("nothing was found: %v", err)
	}
	return v
}

// worse makes a row of one machine another one: what the service does on a fact
// in a state. A row with To "" is none: the fact is ignored.
func worse(t *testing.T, machines []search.Machine, service, state string, row search.Row) {
	t.Helper()
	s := forget(t, machines, service, state, row)
	if row.To == "" {
		s.Ignores = append(s.Ignores, row.On)
	} else {
		s.Rows = append(s.Rows, row)
	}
}

// park makes a service park a fact in a state.
func park(t *testing.T, machines []search.Machine, service, state, fact string) {
	t.Helper()
	s := forget(t, machines, service, state, search.Row{On: fact})
	s.Rows = drop(s.Rows, func(r search.Row) bool { return r.On == fact })
	s.Faults = append(s.Faults, fact)
}

func forget(t *testing.T, machines []search.Machine, service, state string, row search.Row) *search.State {
	t.Helper()
	for i := range machines {
		for j := range machines[i].States {
			s := &machines[i].States[j]
			if machines[i].Service == service && s.Name == state {
				s.Rows = drop(s.Rows, func(r search.Row) bool { return r.On == row.On && r.If == row.If })
				s.Ignores = drop(s.Ignores, func(fact string) bool { return fact == row.On })
				s.Faults = drop(s.Faults, func(fact string) bool { return fact == row.On })
				return s
			}
		}
	}
	t.Fatalf("%s has no state %q", service, state)
	return nil
}

func drop[E any](all []E, gone func(E) bool) (kept []E) {
	for _, e := range all {
		if !gone(e) {
			kept = append(kept, e)
		}
	}
	return kept
}
