package order

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/fault"
)

var total = contract.Money{Amount: 1250, Currency: "EUR"} //nolint:gochecknoglobals // a value of tests

func sample(s State) Order {
	o := Order{
		ID: "0199b1a0-0000-7000-8000-000000000001", CustomerID: "cust-01", Email: "cust-01@example.test", State: s,
		Items: []contract.Item{{SKU: "mug-red", Quantity: 1, UnitPrice: 1250}}, Total: total, PaymentMethod: Wallet, Version: 1,
	}
	if s != Placed {
		o.Version = 2
	}
	if s == Cancelled {
		o.Reason, o.Detail = ByCustomer, "first"
	}
	return o
}

// inputs are all that can happen to an order, by name.
func inputs() map[string]transition {
	note := func(e Effects) transition {
		return func(o Order) (Order, []event.Event, error) { return o.Note(e) }
	}
	return map[string]transition{
		"authorized": func(o Order) (Order, []event.Event, error) { return o.Confirm(total) },
		"authorized short": func(o Order) (Order, []event.Event, error) {
			return o.Confirm(contract.Money{Amount: 1, Currency: "EUR"})
		},
		"rejected": func(o Order) (Order, []event.Event, error) { return o.Refuse(OutOfStock, "none left") },
		"declined": func(o Order) (Order, []event.Event, error) { return o.Refuse(PaymentDeclined, "no money") },
		"customer": func(o Order) (Order, []event.Event, error) { return o.Cancel(ByCustomer, "wish") },
		"deadline": func(o Order) (Order, []event.Event, error) { return o.Cancel(ByDeadline, "late") },
		"captured": note(Effects{Captured: true}),
		"shipped":  note(Effects{Shipped: true}),
		"voided":   note(Effects{Voided: true}),
		"released": note(Effects{Released: true}),
	}
}

const (
	stays  = "stays"
	parked = "parked"  // a permanent fault
	denied = "refused" // ErrConfirmed
)

// machine is the whole table: what each input makes of each state. Anything but
// the constants above is the state it leads to.
func machine() map[State]map[string]string {
	return map[State]map[string]string{
		Placed: {
			"authorized": "confirmed", "authorized short": parked, "rejected": "cancelled out_of_stock", "declined": "cancelled payment_declined",
			"customer": "cancelled customer", "deadline": "cancelled deadline",
			"captured": parked, "shipped": parked, "voided": parked, "released": "noted",
		},
		Confirmed: {
			"authorized": stays, "authorized short": parked, "rejected": parked, "declined": parked,
			"customer": denied, "deadline": denied,
			"captured": "noted", "shipped": "noted", "voided": parked, "released": parked,
		},
		Cancelled: {
			"authorized": stays, "authorized short": parked, "rejected": stays, "declined": stays,
			"customer": stays, "deadline": stays,
			"captured": parked, "shipped": parked, "voided": "noted", "released": "noted",
		},
	}
}

func outcome(before, after Order, events []event.Event, err error) string {
	switch {
	case errors.Is(err, ErrConfirmed):
		return denied
	case fault.ClassOf(err) == fault.ClassPermanent:
		return parked
	case err != nil:
		return "unexpected error " + err.Error()
	case after.State != before.State:
		return strings.TrimSpace(string(after.State) + " " + string(after.Reason))
	case after.Effects != before.Effects:
		return "noted"
	}
	return stays
}

func TestMachine_EveryStateAndInput_DoesWhatTheTableSays(t *testing.T) {
	t.Parallel()
	for state, row := range machine() {
		for name, input := range inputs() {
			before := sample(state)
			after, events, err := input(before)
			got := outcome(before, after, events, err)
			if want := row[name]; got != want {
				t.Errorf("%s, %s: %s, want %s", state, name, got, want)
			}
			if (got == stays || got == parked || got == denied) && !reflect.DeepEqual(before, after) {
				t.Errorf("%s, %s: the order changed although it %s: %+v", state, name, got, after)
			}
			if decided := after.State != before.State; decided != (len(events) == 1) || len(events) > 1 {
				t.Errorf("%s, %s: %d events", state, name, len(events))
			}
		}
	}
}

func TestMachine_AuthorisedAfterARelease_IsAFault(t *testing.T) {
	t.Parallel()
	o, _, err := sample(Placed).Note(Effects{Released: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.Confirm(total); fault.ClassOf(err) != fault.ClassPermanent {
		t.Errorf("got %v, want a Permanent fault", err)
	}
}

func TestMachine_EventsCarryTheOrder(t *testing.T) {
	t.Parallel()
	o := sample(Placed)
	_, confirmed, _ := o.Confirm(total)
	_, cancelled, _ := o.Cancel(ByDeadline, "late")
	got := append(append(o.Place(), confirmed...), cancelled...)
	want := []event.Event{
		contract.OrderPlaced{OrderID: o.ID, CustomerID: "cust-01", Email: o.Email, Items: o.Items, Total: total, PaymentMethod: Wallet},
		contract.OrderConfirmed{OrderID: o.ID, CustomerID: "cust-01", Email: o.Email, Total: total},
		contract.OrderCancelled{OrderID: o.ID, CustomerID: "cust-01", Email: o.Email, Reason: "deadline", Detail: "late"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestMachine_AnySequence_DecidesAtMostOnceAndRepetitionChangesNothing(t *testing.T) {
	t.Parallel()
	all := inputs()
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(t *rapid.T) {
		o, decisions := sample(Placed), 0
		for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 1, 30).Draw(t, "inputs") {
			after, events, err := all[name](o)
			if err != nil {
				continue
			}
			if decisions += len(events); decisions > 1 {
				t.Fatalf("%s decided an order that was decided", name)
			}
			if again, events, err := all[name](after); len(events) > 0 || !reflect.DeepEqual(again, after) || (err != nil && after.State == Placed) {
				t.Fatalf("%s twice: %+v, %d events, %v", name, again, len(events), err)
			}
			o = after
		}
		if (o.State != Placed) != (decisions == 1) {
			t.Fatalf("state %s after %d decisions", o.State, decisions)
		}
		e := o.Effects
		if (e.Captured || e.Shipped) && (e.Voided || e.Released) {
			t.Fatalf("effects of both ends: %+v", e)
		}
	})
}

// TestMachine_EveryOrderOfConcurrentFacts_EndsTheSaga takes the sets of facts that
// really race and delivers each in every order, each fact twice.
func TestMachine_EveryOrderOfConcurrentFacts_EndsTheSaga(t *testing.T) {
	t.Parallel()
	all := inputs()
	for _, facts := range [][]string{
		{"authorized", "customer", "deadline"},
		{"rejected", "customer", "deadline"},
		{"declined", "released", "customer", "deadline"},
	} {
		permute(facts, func(order []string) {
			o, decisions := sample(Placed), 0
			for _, name := range append(slices.Clone(order), order...) {
				after, events, err := all[name](o)
				if err != nil && !errors.Is(err, ErrConfirmed) {
					t.Errorf("%v: %s: %v", order, name, err)
				}
				o, decisions = after, decisions+len(events)
			}
			if o.State == Placed || decisions != 1 {
				t.Errorf("%v ends %s after %d decisions", order, o.State, decisions)
			}
			if slices.Contains(facts, "released") && !o.Effects.Released {
				t.Errorf("%v loses the release", order)
			}
		})
	}
}

func permute(items []string, visit func([]string)) {
	var rec func(done, rest []string)
	rec = func(done, rest []string) {
		if len(rest) == 0 {
			visit(done)
		}
		for i := range rest {
			left := append(slices.Clone(rest[:i]), rest[i+1:]...)
			rec(append(slices.Clone(done), rest[i]), left)
		}
	}
	rec(nil, items)
}

func TestPrice_SumsAtTheCataloguesPrices(t *testing.T) {
	t.Parallel()
	catalogue := map[string]Product{
		"tea":  {SKU: "tea", Price: contract.Money{Amount: 690, Currency: "EUR"}},
		"mug":  {SKU: "mug", Price: contract.Money{Amount: 1250, Currency: "EUR"}},
		"gold": {SKU: "gold", Price: contract.Money{Amount: math.MaxInt64 / 1000, Currency: "EUR"}},
		"yen":  {SKU: "yen", Price: contract.Money{Amount: 5, Currency: "JPY"}},
	}
	for _, c := range []struct {
		name     string
		lines    []Line
		currency string
		want     int64
		wantErr  string
	}{
		{name: "two products", lines: []Line{{"tea", 2}, {"mug", 3}}, want: 2*690 + 3*1250},
		{name: "currency named", lines: []Line{{"tea", 1}}, currency: "EUR", want: 690},
		{name: "the largest", lines: []Line{{"gold", 1000}}, want: math.MaxInt64 / 1000 * 1000},
		{name: "overflow by sum", lines: []Line{{"gold", 1000}, {"mug", 1}}, wantErr: "fewer pieces"},
		{name: "unknown product", lines: []Line{{"none", 1}}, wantErr: "no product none"},
		{name: "foreign currency", lines: []Line{{"tea", 1}}, currency: "USD", wantErr: "order it in EUR"},
		{name: "two currencies", lines: []Line{{"tea", 1}, {"yen", 1}}, wantErr: "priced in JPY"},
	} {
		items, got, err := Request{Lines: c.lines, Currency: c.currency}.price(catalogue)
		if c.wantErr != "" {
			if fault.ClassOf(err) != fault.ClassInvalid || !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("%s: error %v, want an Invalid one with %q", c.name, err, c.wantErr)
			}
			continue
		}
		if err != nil || got != (contract.Money{Amount: c.want, Currency: "EUR"}) || len(items) != len(c.lines) {
			t.Errorf("%s: %+v, %+v, %v", c.name, items, got, err)
		}
	}
}

func TestHash_DiffersWithEveryField(t *testing.T) {
	t.Parallel()
	base := Request{CustomerID: "a", Lines: []Line{{"tea", 1}}, PaymentMethod: Wallet}
	seen := map[string]string{}
	for name, change := range map[string]func(*Request){
		"same": func(*Request) {}, "customer": func(r *Request) { r.CustomerID = "b" }, "currency": func(r *Request) { r.Currency = "EUR" },
		"sku": func(r *Request) { r.Lines = []Line{{"mug", 1}} }, "quantity": func(r *Request) { r.Lines = []Line{{"tea", 2}} },
		"lines": func(r *Request) { r.Lines = []Line{{"tea", 1}, {"mug", 1}} }, "method": func(r *Request) { r.PaymentMethod = "card" },
	} {
		r := base
		change(&r)
		h, err := r.hash()
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[string(h)]; ok {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[string(h)] = name
	}
}

func TestRequest_CardToken_GoesWithACardAndIsNeverACardNumber(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, token string
		ok            bool
	}{
		{"card", "tok_ok", true},
		{"card", "tok_ok.17", true},
		{"", "", true},
		{"card", "", false},
		{"card", "4111111111111111", false},
		{"card", "tok_4111111111111111", false},
		{"card", "tok_" + strings.Repeat("x", 61), false},
		{"wallet", "tok_ok", false},
		{"", "tok_ok", false},
	} {
		r := Request{CustomerID: "c", Lines: []Line{{SKU: "tea", Quantity: 1}}, PaymentMethod: c.method, CardToken: c.token}
		err := r.check()
		if (err == nil) != c.ok || err != nil && c.token != "" && strings.Contains(err.Error(), c.token) {
			t.Errorf("%q with %q: %v", c.method, c.token, err)
		}
	}
}
