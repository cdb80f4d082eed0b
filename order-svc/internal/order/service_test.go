package order

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/shared/contract"
	"pavane/shared/failpoint"
	"pavane/shared/fault"
	"pavane/shared/postgres"
)

const rowsSQL = `select (select count(*) from orders) + (select count(*) from outbox) + (select count(*) from idempotency) + (select count(*) from deadlines)`

func TestPlace_WritesOrderDeadlineKeyAndEventTogether(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	r := request()
	r.IdempotencyKey = "k1"
	o, replayed, err := b.s.Place(b.ctx, r)
	b.must(err)
	if want := (contract.Money{Amount: 2*1250 + 690, Currency: "EUR"}); o.Total != want || o.State != Placed || replayed || o.Version != 1 {
		t.Errorf("placed %+v, replayed %t; want a total of %+v", o, replayed, want)
	}
	if got := b.get(o); !reflect.DeepEqual(got, o) {
		t.Errorf("read back %+v\nplaced %+v", got, o)
	}
	if got := b.published(o.ID); !slices.Equal(got, []string{"order.placed.v1"}) {
		t.Errorf("published %v", got)
	}
	if n := b.count(`select count(*) from deadlines d join orders o using (order_id) where due_at = placed_at + interval '1 minute'`); n != 1 {
		t.Errorf("%d deadlines a minute after their order", n)
	}
}

func TestPlace_CustomersOfIssuers_AreTaken(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	for _, id := range []string{"auth0|5f7c8ec7", "Jane.Doe+shop@example.com", "system:x/y="} {
		b.must(b.exec(`insert into customers (customer_id, name, email) values ($1, 'Jane', 'jane@example.test')`, id))
		r := request()
		r.CustomerID = id
		if o, _, err := b.s.Place(b.ctx, r); err != nil || o.CustomerID != id {
			t.Errorf("%s: %+v, %v", id, o, err)
		}
	}
	for _, id := range []string{"..", "a b", "a\"b", "<b>"} {
		if err := b.exec(`insert into customers (customer_id, name, email) values ($1, 'Jane', 'jane@example.test')`, id); err == nil {
			t.Errorf("the database takes a customer %q", id)
		}
	}
}

func TestPlace_Refused_LeavesNoRow(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	b.must(b.exec(`insert into products (sku, name, price, currency) values ('gold', 'Gold', 9223372036854775, 'EUR'), ('yen', 'Yen', 1, 'JPY')`))
	many := make([]Line, MaxLines+1)
	for i := range many {
		many[i] = Line{"mug-red", 1}
	}
	for name, change := range map[string]func(*Request){
		"unknown customer":   func(r *Request) { r.CustomerID = "cust-99" },
		"malformed customer": func(r *Request) { r.CustomerID = "a\x00b" },
		"no customer":        func(r *Request) { r.CustomerID = "" },
		"no lines":           func(r *Request) { r.Lines = nil },
		"too many lines":     func(r *Request) { r.Lines = many },
		"unknown product":    func(r *Request) { r.Lines = []Line{{"none", 1}} },
		"malformed sku":      func(r *Request) { r.Lines = []Line{{"Mug Red", 1}} },
		"zero":               func(r *Request) { r.Lines = []Line{{"mug-red", 0}} },
		"negative":           func(r *Request) { r.Lines = []Line{{"mug-red", -1}} },
		"too much":           func(r *Request) { r.Lines = []Line{{"mug-red", MaxQuantity + 1}} },
		"sku twice":          func(r *Request) { r.Lines = []Line{{"mug-red", 1}, {"mug-red", 1}} },
		"overflow":           func(r *Request) { r.Lines = []Line{{"gold", 1000}, {"mug-red", 1}} },
		"foreign currency":   func(r *Request) { r.Currency = "USD" },
		"mixed currencies":   func(r *Request) { r.Lines = []Line{{"mug-red", 1}, {"yen", 1}} },
		"unknown method":     func(r *Request) { r.PaymentMethod = "shells" },
		"key with space":     func(r *Request) { r.IdempotencyKey = "a b" },
		"key too long":       func(r *Request) { r.IdempotencyKey = strings.Repeat("k", MaxKeyBytes+1) },
	} {
		r := request()
		r.IdempotencyKey = "key"
		change(&r)
		if _, _, err := b.s.Place(b.ctx, r); fault.ClassOf(err) != fault.ClassInvalid {
			t.Errorf("%s: %v, want an Invalid fault", name, err)
		}
		if n := b.count(rowsSQL); n != 0 {
			t.Fatalf("%s left %d rows", name, n)
		}
	}
}

func TestPlace_CrashBeforeCommit_LeavesNothingAndTheKeyFree(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	r := request()
	r.IdempotencyKey = "k"
	set, err := failpoint.Parse("order.before_place=error")
	b.must(err)
	if _, _, err := b.s.Place(failpoint.With(b.ctx, set), r); err == nil {
		t.Fatal("no error")
	}
	if n := b.count(rowsSQL); n != 0 {
		t.Errorf("%d rows", n)
	}
	if _, replayed, err := b.s.Place(b.ctx, r); err != nil || replayed {
		t.Errorf("again: replayed %t, %v", replayed, err)
	}
}

func TestPlace_AnswerLostAfterCommit_RepetitionGetsTheSameOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	r := request()
	r.IdempotencyKey = "k"
	set, err := failpoint.Parse("order.after_place=error")
	b.must(err)
	if _, _, err := b.s.Place(failpoint.With(b.ctx, set), r); err == nil {
		t.Fatal("no error")
	}
	// What the catalogue says meanwhile must not matter.
	b.must(b.exec(`update products set price = price + 1`))
	o, replayed, err := b.s.Place(b.ctx, r)
	if err != nil || !replayed || o.Total.Amount != 2*1250+690 {
		t.Errorf("again: %+v, replayed %t, %v", o, replayed, err)
	}
	if n := b.count(`select count(*) from orders`); n != 1 {
		t.Errorf("%d orders", n)
	}
}

func TestPlace_NothingNewIsAdmitted_LeavesNoRowAndRepetitionsAreAnswered(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	r := request()
	r.IdempotencyKey = "k"
	first, _, err := b.s.Place(b.ctx, r)
	b.must(err)
	busy := errors.New("busy")
	b.s.admit = func() error { return busy }
	if o, replayed, err := b.s.Place(b.ctx, r); err != nil || !replayed || o.ID != first.ID {
		t.Errorf("repetition: %s, replayed %t, %v; want %s", o.ID, replayed, err, first.ID)
	}
	r.IdempotencyKey = "other"
	if _, _, err := b.s.Place(b.ctx, r); !errors.Is(err, busy) {
		t.Errorf("new order: %v; want the refusal", err)
	}
	if n := b.count(`select (select count(*) from orders) + (select count(*) from idempotency)`); n != 2 {
		t.Errorf("%d orders and keys, want one of each", n)
	}
	b.must(b.authorize(first)) // the saga of what was accepted goes on
	if got := b.get(first); got.State != Confirmed {
		t.Errorf("the accepted order is %s", got.State)
	}
}

func TestPlace_SameKeyOtherBody_IsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	r := request()
	r.IdempotencyKey = "k"
	_, _, err := b.s.Place(b.ctx, r)
	b.must(err)
	before := b.count(rowsSQL)
	r.Lines[0].Quantity++
	if _, _, err := b.s.Place(b.ctx, r); fault.ClassOf(err) != fault.ClassInvalid {
		t.Errorf("other body: %v, want an Invalid fault", err)
	}
	if n := b.count(rowsSQL); n != before {
		t.Errorf("%d rows more", n-before)
	}
	r.CustomerID = "cust-02"
	if _, replayed, err := b.s.Place(b.ctx, r); err != nil || replayed {
		t.Errorf("the same key of another customer: replayed %t, %v", replayed, err)
	}
}

func TestPlace_ConcurrentSameKey_OneOrderForAll(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	r := request()
	r.IdempotencyKey = "k"
	const n = 16
	ids := make([]string, n)
	var fresh sync.Map
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			o, replayed, err := b.s.Place(b.ctx, r)
			if err != nil {
				t.Error(err)
				return
			}
			if ids[i] = o.ID; !replayed {
				fresh.Store(i, true)
			}
		})
	}
	wg.Wait()
	winners := 0
	fresh.Range(func(any, any) bool { winners++; return true })
	if slices.Sort(ids); ids[0] != ids[n-1] || winners != 1 {
		t.Errorf("orders %v, %d winners", slices.Compact(ids), winners)
	}
	if got := b.published(ids[0]); len(got) != 1 {
		t.Errorf("published %v", got)
	}
}

func TestPlace_WithoutKey_EveryRequestIsAnOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	if one, two := b.place(), b.place(); one.ID == two.ID {
		t.Errorf("two requests, one order %s", one.ID)
	}
}

func TestCancel_PlacedOrder_OnceAndForAll(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	o := b.place()
	first, err := b.s.Cancel(b.ctx, o.ID, Anybody)
	b.must(err)
	second, err := b.s.Cancel(b.ctx, strings.ToUpper(o.ID), Anybody)
	b.must(err)
	if first.State != Cancelled || first.Reason != ByCustomer || first.Version != 2 || !reflect.DeepEqual(first, second) {
		t.Errorf("first %+v\nsecond %+v", first, second)
	}
	// A late authorisation changes nothing; payment voids by itself.
	b.must(b.authorize(o))
	if got := b.published(o.ID); !slices.Equal(got, []string{"order.placed.v1", "order.cancelled.v1"}) {
		t.Errorf("published %v", got)
	}
	if n := b.count(`select count(*) from deadlines`); n != 0 {
		t.Errorf("%d deadlines of a cancelled order", n)
	}
}

func TestCancel_ConfirmedOrder_IsAConflict(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	o := b.place()
	b.must(b.authorize(o))
	if _, err := b.s.Cancel(b.ctx, o.ID, Anybody); fault.ClassOf(err) != fault.ClassConflict {
		t.Errorf("got %v, want a Conflict fault", err)
	}
	if got := b.get(o); got.State != Confirmed || got.Version != 2 || got.DecidedAt == nil {
		t.Errorf("got %+v", got)
	}
}

func TestCancel_UnknownOrder_IsNotFound(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	for _, id := range []string{"0199b1a0-0000-7000-8000-000000000001", "x", "", "\x00", "urn:uuid:0199b1a0-0000-7000-8000-000000000001"} {
		if _, err := b.s.Cancel(b.ctx, id, Anybody); fault.ClassOf(err) != fault.ClassNotFound {
			t.Errorf("%q: %v, want a NotFound fault", id, err)
		}
	}
}

func TestCancelRacesConfirm_ExactlyOneDecides(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	for range 20 {
		o := b.place()
		// Whoever decides waits for this one, so that they all begin before one ends.
		first, err := b.db.SQL().BeginTx(b.ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := first.ExecContext(b.ctx, `select from orders where order_id = $1 for update`, o.ID); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := b.authorize(o); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := b.s.Cancel(b.ctx, o.ID, Anybody); err != nil && fault.ClassOf(err) != fault.ClassConflict {
				t.Error(err)
			}
		})
		await.True(t, 30*time.Second, "both wait for the order's row", func() bool {
			return b.count(`select count(*) from pg_stat_activity where application_name = '`+t.Name()+`' and wait_event_type = 'Lock'`) >= 2
		})
		if err := first.Rollback(); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := b.s.fire(b.ctx, o.ID); err != nil && fault.ClassOf(err) != fault.ClassNotFound {
				t.Error(err)
			}
		})
		wg.Wait()
		if got := b.published(o.ID); len(got) != 2 {
			t.Fatalf("published %v", got)
		}
	}
	if n := b.count(`select count(*) from deadlines`); n != 0 {
		t.Errorf("%d deadlines left", n)
	}
}

func TestReactions_EveryPath_EndsAsTheSagaSays(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	placed, confirmed, cancelled := "order.placed.v1", "order.confirmed.v1", "order.cancelled.v1"
	for _, c := range []struct {
		name  string
		hear  func(o Order) []error
		want  State
		why   Reason
		done  Effects
		kinds []string
	}{
		{"confirmed", func(o Order) []error {
			return []error{
				b.authorize(o), b.authorize(o),
				hear(b, b.s.NoteShipped, contract.InventoryShipped{OrderID: o.ID}),
				hear(b, b.s.NoteCaptured, contract.PaymentCaptured{OrderID: o.ID, Amount: o.Total}),
				hear(b, b.s.NoteCaptured, contract.PaymentCaptured{OrderID: o.ID, Amount: o.Total}),
			}
		}, Confirmed, "", Effects{Captured: true, Shipped: true}, []string{placed, confirmed}},
		{"out of stock", func(o Order) []error {
			return []error{
				hear(b, b.s.CancelOutOfStock, contract.InventoryRejected{OrderID: o.ID, Reason: "none"}),
				hear(b, b.s.CancelOutOfStock, contract.InventoryRejected{OrderID: o.ID, Reason: "none"}),
			}
		}, Cancelled, OutOfStock, Effects{}, []string{placed, cancelled}},
		{"declined, release heard of first", func(o Order) []error {
			return []error{
				hear(b, b.s.NoteReleased, contract.InventoryReleased{OrderID: o.ID}),
				hear(b, b.s.CancelUnpaid, contract.PaymentDeclined{OrderID: o.ID, Reason: "short"}),
			}
		}, Cancelled, PaymentDeclined, Effects{Released: true}, []string{placed, cancelled}},
		{"cancelled after authorisation", func(o Order) []error {
			_, err := b.s.Cancel(b.ctx, o.ID, Anybody)
			return []error{
				err, b.authorize(o),
				hear(b, b.s.NoteVoided, contract.PaymentVoided{OrderID: o.ID, Amount: o.Total}),
				hear(b, b.s.NoteReleased, contract.InventoryReleased{OrderID: o.ID}),
			}
		}, Cancelled, ByCustomer, Effects{Voided: true, Released: true}, []string{placed, cancelled}},
	} {
		o := b.place()
		for i, err := range c.hear(o) {
			if err != nil {
				t.Errorf("%s: step %d: %v", c.name, i+1, err)
			}
		}
		got := b.get(o)
		if got.State != c.want || got.Reason != c.why || got.Effects != c.done || got.Version != 2 {
			t.Errorf("%s: %+v", c.name, got)
		}
		if kinds := b.published(o.ID); !slices.Equal(kinds, c.kinds) {
			t.Errorf("%s: published %v", c.name, kinds)
		}
	}
}

func TestReactions_WhatCannotHappen_IsAPermanentFault(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	o := b.place()
	unknown := "0199b1a0-0000-7000-8000-000000000001"
	for name, err := range map[string]error{
		"unknown order":          hear(b, b.s.Confirm, contract.PaymentAuthorized{OrderID: unknown, Amount: total}),
		"no order id":            hear(b, b.s.NoteShipped, contract.InventoryShipped{OrderID: "x"}),
		"another amount":         hear(b, b.s.Confirm, contract.PaymentAuthorized{OrderID: o.ID, Amount: total}),
		"captured while placed":  hear(b, b.s.NoteCaptured, contract.PaymentCaptured{OrderID: o.ID}),
		"voided, never recalled": hear(b, b.s.NoteVoided, contract.PaymentVoided{OrderID: o.ID}),
	} {
		if fault.ClassOf(err) != fault.ClassPermanent {
			t.Errorf("%s: %v, want a Permanent fault", name, err)
		}
	}
	if got := b.get(o); !reflect.DeepEqual(got, o) {
		t.Errorf("the order changed: %+v", got)
	}
}

func TestList_PagesNewestFirstWithoutGapOrDouble(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	var ids []string
	for range 7 {
		ids = append(ids, b.place().ID)
	}
	_, err := b.s.Cancel(b.ctx, ids[3], Anybody)
	b.must(err)
	slices.Reverse(ids)
	var got []string
	for after := ""; ; {
		page, err := b.s.List(b.ctx, Filter{After: after, Limit: 3})
		b.must(err)
		for _, o := range page {
			got = append(got, o.ID)
		}
		if len(page) < 3 {
			break
		}
		after = page[2].ID
	}
	if !slices.Equal(got, ids) {
		t.Errorf("listed %v\nplaced %v", got, ids)
	}
	cancelled, err := b.s.List(b.ctx, Filter{State: Cancelled, Limit: 10})
	if err != nil || len(cancelled) != 1 || cancelled[0].ID != ids[3] {
		t.Errorf("cancelled ones: %v, %v", cancelled, err)
	}
}

func TestSeed_Twice_KeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	b.must(b.exec(`update products set price = 1 where sku = 'tin'`))
	b.must(b.s.Seed(b.ctx))
	products, err := b.s.Products(b.ctx)
	b.must(err)
	customers, err := b.s.Customers(b.ctx)
	b.must(err)
	i := slices.IndexFunc(products, func(p Product) bool { return p.SKU == "tin" })
	if len(products) != 12 || i < 0 || products[i].Price.Amount != 1 {
		t.Errorf("products %+v", products)
	}
	if len(customers) != 20 || customers[19] != (Customer{"cust-20", "Penny Less", "cust-20@example.test"}) {
		t.Errorf("customers %+v", customers)
	}
}

func TestSchema_UnsoundWrite_IsRefusedByTheDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	o := b.place()
	for statement, constraint := range map[string]string{
		`update orders set total = total + 1 where order_id = $1`:                                             "orders_items_sum",
		`update orders set items = '[]' where order_id = $1`:                                                  "orders_items_sum",
		`update orders set items = jsonb_set(items, '{0,quantity}', '-2') where order_id = $1`:                "orders_items_sum",
		`update orders set state = 'lost' where order_id = $1`:                                                "orders_state",
		`update orders set state = 'confirmed' where order_id = $1`:                                           "orders_state",
		`update orders set state = 'cancelled', version = 2, decided_at = now() where order_id = $1`:          "orders_state",
		`update orders set version = 7 where order_id = $1`:                                                   "orders_state",
		`update orders set captured_at = now() where order_id = $1`:                                           "orders_effects",
		`update orders set currency = 'eur' where order_id = $1`:                                              "orders_currency_check",
		`update products set price = 0 where $1 <> ''`:                                                        "products_price_check",
		`insert into idempotency (customer_id, key, body_hash, order_id) values ('cust-01', 'k', '\x00', $1)`: "idempotency_body_hash_check",
	} {
		if err := b.exec(statement, o.ID); postgres.Constraint(err) != constraint {
			t.Errorf("%s: %v, want a violation of %s", statement, err, constraint)
		}
	}
}
