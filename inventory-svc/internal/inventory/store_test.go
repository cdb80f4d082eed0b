package inventory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/inventory-svc/internal/inventory"
	"pavane/migrations"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
	"pavane/shared/sagatest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const waitLimit = 30 * time.Second

// differencesSQL finds every SKU whose stock is not what its entries say, or
// whose reserved amount is not that of the open reservations.
const differencesSQL = `select s.sku from stock s
left join (select sku, sum(quantity) filter (where kind = 'receive') as received,
    sum(case kind when 'receive' then quantity when 'release' then quantity when 'reserve' then -quantity else 0 end) as available,
    sum(case kind when 'reserve' then quantity when 'receive' then 0 else -quantity end) as reserved,
    sum(case kind when 'ship' then quantity else 0 end) as sold
  from stock_ledger group by sku) l using (sku)
left join (select i.sku, sum(i.quantity) as open from reservations r, jsonb_to_recordset(r.items) as i (sku text, quantity bigint)
  where r.state = 'reserved' group by i.sku) o using (sku)
where s.available + s.reserved + s.sold <> coalesce(l.received, 0) or s.available <> coalesce(l.available, 0)
   or s.reserved <> coalesce(l.reserved, 0) or s.sold <> coalesce(l.sold, 0) or s.reserved <> coalesce(o.open, 0)`

// bench is a service on a schema of its own.
type bench struct {
	t  *testing.T
	db *postgres.DB
	s  *inventory.Service
	// again counts transactions run once more, because they were in each other's way.
	again *atomic.Int64
}

func newBench(t *testing.T, stock ...inventory.Item) bench {
	t.Helper()
	db := pgtest.WithKit(t, migrations.Inventory())
	b := bench{t: t, db: db, s: inventory.New(db), again: new(atomic.Int64)}
	if err := b.s.Receive(t.Context(), "test", stock); err != nil {
		t.Fatal(err)
	}
	return b
}

// tell delivers a fact in a transaction of its own.
func (b bench) tell(f inventory.Fact, order string, items ...inventory.Item) (events []event.Numbered, err error) {
	tries := int64(-1)
	defer func() { b.again.Add(tries) }()
	err = b.db.InTx(b.t.Context(), func(ctx context.Context, tx *sqlx.Tx) (err error) {
		tries++
		switch f {
		case inventory.Placed:
			placed := contract.OrderPlaced{OrderID: order}
			for _, i := range items {
				placed.Items = append(placed.Items, contract.Item{SKU: i.SKU, Quantity: i.Quantity})
			}
			events, err = b.s.Reserve(ctx, tx, placed)
		case inventory.Confirmed:
			events, err = b.s.Ship(ctx, tx, contract.OrderConfirmed{OrderID: order})
		case inventory.Declined:
			events, err = b.s.ReleaseDeclined(ctx, tx, contract.PaymentDeclined{OrderID: order})
		case inventory.Cancelled:
			events, err = b.s.ReleaseCancelled(ctx, tx, contract.OrderCancelled{OrderID: order})
		}
		return err
	})
	return events, err
}

// must is tell for a delivery that must give exactly these kinds of events.
func (b bench) must(f inventory.Fact, order string, items []inventory.Item, kinds ...string) []event.Numbered {
	b.t.Helper()
	events, err := b.tell(f, order, items...)
	if err != nil {
		b.t.Fatalf("%s for %s: %v", f, order, err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.Event.Kind())
	}
	if !reflect.DeepEqual(got, kinds) {
		b.t.Fatalf("%s for %s: told %v; want %v", f, order, got, kinds)
	}
	return events
}

func (b bench) stock() map[string][3]int64 {
	b.t.Helper()
	all, err := b.s.Stock(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	stock := map[string][3]int64{}
	for _, s := range all {
		stock[s.SKU] = [3]int64{s.Available, s.Reserved, s.Sold}
	}
	return stock
}

func (b bench) sound() {
	b.t.Helper()
	var different []string
	err := b.db.Read(b.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		return tx.SelectContext(ctx, &different, differencesSQL)
	})
	if err != nil || len(different) > 0 {
		b.t.Errorf("stock and ledger differ for %v (%v)", different, err)
	}
}

func (b bench) state(order string) inventory.State {
	b.t.Helper()
	r, err := b.s.Reservation(b.t.Context(), order)
	if err != nil {
		b.t.Fatal(err)
	}
	return r.State
}

func TestReserve_OneSKUShort_NothingIsSetAside(t *testing.T) {
	t.Parallel()
	b := newBench(t, inventory.Item{SKU: "honey", Quantity: 9}, inventory.Item{SKU: "kettle", Quantity: 1})
	events := b.must(inventory.Placed, "o-1", []inventory.Item{{SKU: "honey", Quantity: 2}, {SKU: "kettle", Quantity: 2}}, "inventory.rejected.v1")
	rejected, _ := events[0].Event.(contract.InventoryRejected)
	if rejected.Reason != "kettle: 2 wanted, 1 left" {
		t.Errorf("reason %q", rejected.Reason)
	}
	if got := b.stock(); got["honey"] != [3]int64{9, 0, 0} || got["kettle"] != [3]int64{1, 0, 0} {
		t.Errorf("stock is %v", got)
	}
	b.sound()
}

func TestSaga_EachPath_MovesStockOnceAndNumbersItsEvents(t *testing.T) {
	t.Parallel()
	b := newBench(t, inventory.Item{SKU: "tin", Quantity: 10})
	two := []inventory.Item{{SKU: "tin", Quantity: 2}}
	first := b.must(inventory.Placed, "o-ship", two, "inventory.reserved.v1")
	second := b.must(inventory.Confirmed, "o-ship", nil, "inventory.shipped.v1")
	if first[0].Sequence != 1 || second[0].Sequence != 2 {
		t.Errorf("sequences %d, %d; want 1, 2", first[0].Sequence, second[0].Sequence)
	}
	b.must(inventory.Placed, "o-decline", two, "inventory.reserved.v1")
	b.must(inventory.Declined, "o-decline", nil, "inventory.released.v1")
	b.must(inventory.Cancelled, "o-decline", nil)
	b.must(inventory.Placed, "o-cancel", two, "inventory.reserved.v1")
	b.must(inventory.Cancelled, "o-cancel", nil, "inventory.released.v1")
	b.must(inventory.Cancelled, "o-early", nil)
	b.must(inventory.Placed, "o-early", two)
	if got := b.stock()["tin"]; got != [3]int64{8, 0, 2} {
		t.Errorf("available, reserved, sold are %v; want 8, 0, 2", got)
	}
	if got := b.state("o-early"); got != inventory.StateRefused {
		t.Errorf("the late order is %s; want refused", got)
	}
	b.sound()
}

func TestShip_NothingReserved_FaultLeavesNoRow(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if _, err := b.tell(inventory.Confirmed, "o-1"); fault.ClassOf(err) != fault.ClassPermanent {
		t.Errorf("got %v; want a permanent fault", err)
	}
	if _, err := b.s.Reservation(t.Context(), "o-1"); fault.ClassOf(err) != fault.ClassNotFound {
		t.Errorf("got %v; want not found", err)
	}
}

// Each order of delivery, with every fact delivered twice, ends the same. Whether
// the items were set aside in between depends on the order; that they are no more
// does not.
func TestReactions_EveryPermutationWithDuplicates_EndsTheSame(t *testing.T) {
	t.Parallel()
	type end struct {
		stock [3]int64
		off   bool
		odd   bool // more than nothing, or a reservation and its end, was told
	}
	off := end{stock: [3]int64{5, 0, 0}, off: true}
	b := newBench(t)
	for i, set := range []struct {
		facts []inventory.Fact
		end   end
	}{
		{[]inventory.Fact{inventory.Placed, inventory.Confirmed}, end{stock: [3]int64{3, 0, 2}}},
		{[]inventory.Fact{inventory.Placed, inventory.Cancelled}, off},
		{[]inventory.Fact{inventory.Placed, inventory.Declined, inventory.Cancelled}, off},
	} {
		sagatest.RequireSameEnd(t, set.end, set.facts, func(n int) sagatest.Run[inventory.Fact, end] {
			order, sku := fmt.Sprintf("o-%d-%d", i, n), fmt.Sprintf("sku-%d-%d", i, n)
			if err := b.s.Receive(t.Context(), "test", []inventory.Item{{SKU: sku, Quantity: 5}}); err != nil {
				t.Fatal(err)
			}
			return sagatest.Run[inventory.Fact, end]{
				Tell: func(f inventory.Fact) ([]event.Numbered, error) {
					return b.tell(f, order, inventory.Item{SKU: sku, Quantity: 2})
				},
				End: func(told []event.Numbered) end {
					off := slices.Contains([]inventory.State{inventory.StateReleased, inventory.StateRefused}, b.state(order))
					return end{b.stock()[sku], off, len(told) != 0 && len(told) != 2}
				},
			}
		})
	}
	b.sound()
}

func TestReserve_200OrdersFor10Units_NeverOversells(t *testing.T) {
	t.Parallel()
	b := newBench(t, inventory.Item{SKU: "pot", Quantity: 10}, inventory.Item{SKU: "tin", Quantity: 1000})
	kinds := sagatest.AtOnce(t, 8, 200, func(n int) ([]event.Numbered, error) {
		return b.tell(inventory.Placed, fmt.Sprintf("o-%d", n), inventory.Item{SKU: "tin", Quantity: 1}, inventory.Item{SKU: "pot", Quantity: 1})
	})
	if kinds["inventory.reserved.v1"] != 10 || kinds["inventory.rejected.v1"] != 190 {
		t.Errorf("told %v; want 10 reserved and 190 rejected", kinds)
	}
	if got := b.stock(); got["pot"] != [3]int64{0, 10, 0} || got["tin"] != [3]int64{990, 10, 0} {
		t.Errorf("stock is %v", got)
	}
	b.sound()
}

func TestReserve_AnotherOrderIsTakingTheLastUnit_WaitsAndRejects(t *testing.T) {
	t.Parallel()
	pot := inventory.Item{SKU: "pot", Quantity: 1}
	b := newBench(t, pot)
	type answer struct {
		events []event.Numbered
		err    error
	}
	late := make(chan answer, 1)
	err := b.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		first := contract.OrderPlaced{OrderID: "o-1", Items: []contract.Item{{SKU: pot.SKU, Quantity: pot.Quantity}}}
		if _, err := b.s.Reserve(ctx, tx, first); err != nil {
			return err
		}
		go func() {
			events, err := b.tell(inventory.Placed, "o-2", pot)
			late <- answer{events, err}
		}()
		await.True(t, waitLimit, "the second order waits for the first", func() bool { return b.waiting() > 0 || len(late) > 0 })
		return nil
	})
	got := <-late
	if err := errors.Join(err, got.err); err != nil {
		t.Fatal(err)
	}
	if len(got.events) != 1 || got.events[0].Event.Kind() != "inventory.rejected.v1" {
		t.Errorf("told %v; want that the second order is rejected", got.events)
	}
	b.sound()
}

// waiting is how many transactions of this test wait for a lock.
func (b bench) waiting() (n int) {
	b.t.Helper()
	const query = `select count(*) from pg_stat_activity where application_name = current_setting('application_name') and wait_event_type = 'Lock'`
	if err := b.db.Get(b.t.Context(), &n, query); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// Orders over the same SKUs, their facts in random order and from several
// goroutines at once: nothing deadlocks and every unit is accounted for.
func TestReactions_RandomFactsAtOnce_StockIsConserved(t *testing.T) {
	t.Parallel()
	b := newBench(t, inventory.Item{SKU: "a", Quantity: 60}, inventory.Item{SKU: "b", Quantity: 60}, inventory.Item{SKU: "c", Quantity: 60})
	sagatest.AtOnce(t, 8, 1000, func(n int) ([]event.Numbered, error) {
		r := rand.New(rand.NewPCG(7, uint64(n)))
		order := fmt.Sprintf("o-%d", r.IntN(300))
		var items []inventory.Item
		for _, i := range r.Perm(3)[:1+r.IntN(3)] {
			items = append(items, inventory.Item{SKU: string(rune('a' + i)), Quantity: 1 + r.Int64N(3)})
		}
		events, err := b.tell(inventory.Fact(r.IntN(4)), order, items...)
		if fault.ClassOf(err) == fault.ClassPermanent {
			err = nil
		}
		return events, err
	})
	if n := b.again.Load(); n > 0 {
		t.Errorf("%d transactions had to be run again; some lock is taken out of order", n)
	}
	b.sound()
}

func TestReceive_SameReferenceAgain_IsBookedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for range 2 {
		if err := b.s.SeedDemo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got := b.stock()
	if len(got) != 12 || got["pot-cast"] != [3]int64{5, 0, 0} || got["gift-card"] != [3]int64{} || got["tea-green"] != [3]int64{100_000, 0, 0} {
		t.Errorf("stock is %v", got)
	}
	b.sound()
}

func TestDatabase_UnsoundWrite_IsRefused(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, sql, says string }{
		{"stock without an entry", `update stock set available = available + 1 where sku = 'tin'`, "add an entry to stock_ledger"},
		{"stock moved without an entry", `update stock set available = 0, reserved = 3 where sku = 'tin'`, "add an entry to stock_ledger"},
		{"new SKU with stock", `insert into stock (sku, available) values ('new', 5)`, "add an entry to stock_ledger"},
		{"SKU taken away", `delete from stock where sku = 'tin'`, "history"},
		{"more than there is", `insert into stock_ledger (order_id, sku, kind, quantity) values ('o-2', 'tin', 'reserve', 4)`, "stock_available_covers"},
		{"reserved twice", `insert into stock_ledger (order_id, sku, kind, quantity) values ('o-1', 'tin', 'reserve', 1)`, "stock_ledger_once"},
		{"released, never reserved", `insert into stock_ledger (order_id, sku, kind, quantity) values ('o-2', 'tin', 'release', 1)`, "stock_ledger_settles"},
		{"shipped more than reserved", `insert into stock_ledger (order_id, sku, kind, quantity) values ('o-1', 'tin', 'ship', 3)`, "stock_ledger_settles"},
		{"shipped less than reserved", `insert into stock_ledger (order_id, sku, kind, quantity) values ('o-1', 'tin', 'ship', 1)`, "stock_ledger_settles"},
		{"shipped and released", `insert into stock_ledger (order_id, sku, kind, quantity) values ('o-1', 'tin', 'ship', 2), ('o-1', 'tin', 'release', 2)`, "stock_ledger_settled_once"},
		{"entry for no order", `insert into stock_ledger (sku, kind, quantity) values ('tin', 'reserve', 1)`, "stock_ledger_belongs"},
		{"nothing received", `insert into stock_ledger (sku, kind, quantity, reference) values ('tin', 'receive', 0, 'r')`, "quantity_check"},
		{"entry changed", `update stock_ledger set quantity = 9`, "entries stand"},
		{"entry deleted", `delete from stock_ledger`, "entries stand"},
		{"ledger emptied", `truncate stock_ledger`, "entries stand"},
	}
	b := newBench(t, inventory.Item{SKU: "tin", Quantity: 5})
	b.must(inventory.Placed, "o-1", []inventory.Item{{SKU: "tin", Quantity: 2}}, "inventory.reserved.v1")
	b.must(inventory.Placed, "o-3", []inventory.Item{{SKU: "tin", Quantity: 2}}, "inventory.reserved.v1")
	b.must(inventory.Cancelled, "o-2", nil)
	for _, c := range cases {
		err := b.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, c.sql)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v; want a refusal with %q", c.name, err, c.says)
		}
	}
	if got := b.stock()["tin"]; got != [3]int64{1, 4, 0} {
		t.Errorf("stock is %v; want 1, 4, 0", got)
	}
	b.sound()
}
