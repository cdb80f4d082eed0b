package payment_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/migrations"
	"pavane/payment-svc/internal/payment"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
	"pavane/shared/sagatest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const waitLimit = 30 * time.Second

// differencesSQL finds accounts whose balance is not the sum of their entries,
// transfers that do not sum to zero, held money that no open payment explains,
// and a whole that is not zero.
const differencesSQL = `select 'balance of ' || a.account_id from accounts a
  where a.balance <> (select coalesce(sum(e.amount), 0) from entries e where e.account_id = a.account_id)
union all select 'transfer ' || t.transfer_id from transfers t
  where (select coalesce(sum(e.amount), 1) from entries e where e.transfer_id = t.transfer_id) <> 0
union all select 'held ' || a.account_id from accounts a where a.kind = 'held' and a.balance <>
  (select coalesce(sum(p.amount), 0) from payments p where p.customer_id = a.customer_id and p.currency = a.currency and p.state = 'authorized')
union all select 'sum of all balances' where (select coalesce(sum(balance), 0) from accounts) <> 0`

// bench is a service on a schema of its own.
type bench struct {
	t  *testing.T
	db *postgres.DB
	s  *payment.Service
	// again counts transactions run once more, because they were in each other's way.
	again *atomic.Int64
}

// newBench opens a wallet for each customer, with the amount in it.
func newBench(t *testing.T, amount int64, customers ...string) bench {
	t.Helper()
	db := pgtest.WithKit(t, migrations.Payment())
	b := bench{t: t, db: db, s: payment.New(db, map[string]payment.Method{"wallet": payment.Wallet{}}), again: new(atomic.Int64)}
	b.open(amount, customers...)
	return b
}

func (b bench) open(amount int64, customers ...string) {
	b.t.Helper()
	if err := errors.Join(b.s.OpenWallets(b.t.Context(), "EUR", customers...), b.s.Deposit(b.t.Context(), "test", amount, "EUR", customers...)); err != nil {
		b.t.Fatal(err)
	}
}

func placed(order, customer string, amount int64) contract.OrderPlaced {
	return contract.OrderPlaced{OrderID: order, CustomerID: customer, Total: contract.Money{Amount: amount, Currency: "EUR"}, PaymentMethod: "wallet"}
}

// tell delivers a fact about an order in a transaction of its own.
func (b bench) tell(f payment.Fact, o contract.OrderPlaced) ([]event.Numbered, error) {
	return b.tellIn(b.t.Context(), f, o)
}

func (b bench) tellIn(ctx context.Context, f payment.Fact, o contract.OrderPlaced) (events []event.Numbered, err error) {
	tries := int64(-1)
	defer func() { b.again.Add(tries) }()
	err = b.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
		tries++
		switch f {
		case payment.Placed:
			events, err = b.s.AuthorizePlaced(ctx, tx, o)
		case payment.Reserved:
			events, err = b.s.AuthorizeReserved(ctx, tx, contract.InventoryReserved{OrderID: o.OrderID})
		case payment.Confirmed:
			events, err = b.s.Capture(ctx, tx, contract.OrderConfirmed{OrderID: o.OrderID})
		case payment.Cancelled:
			events, err = b.s.Void(ctx, tx, contract.OrderCancelled{OrderID: o.OrderID})
		}
		return err
	})
	return events, err
}

// must is tell for a delivery that must give exactly these kinds of events.
func (b bench) must(f payment.Fact, o contract.OrderPlaced, kinds ...string) []event.Numbered {
	b.t.Helper()
	events, err := b.tell(f, o)
	if err != nil {
		b.t.Fatalf("%s for %s: %v", f, o.OrderID, err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.Event.Kind())
	}
	if !reflect.DeepEqual(got, kinds) {
		b.t.Fatalf("%s for %s: told %v; want %v", f, o.OrderID, got, kinds)
	}
	return events
}

// account returns what a customer may spend and what is held.
func (b bench) account(customer string) [2]int64 {
	b.t.Helper()
	accounts, err := b.s.Accounts(b.t.Context(), customer)
	if err != nil || len(accounts) != 1 {
		b.t.Fatalf("accounts of %s: %v, %v", customer, accounts, err)
	}
	return [2]int64{accounts[0].Available, accounts[0].Held}
}

func (b bench) state(order string) payment.State {
	b.t.Helper()
	p, _, err := b.s.Payment(b.t.Context(), order)
	if err != nil {
		b.t.Fatal(err)
	}
	return p.State
}

func (b bench) sound() {
	b.t.Helper()
	var different []string
	err := b.db.Read(b.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		return tx.SelectContext(ctx, &different, differencesSQL)
	})
	if err != nil || len(different) > 0 {
		b.t.Errorf("the ledger does not add up: %v (%v)", different, err)
	}
}

func TestSaga_EachPath_MovesMoneyOnceAndNumbersItsEvents(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1000, "c")
	one := placed("o-capture", "c", 300)
	b.must(payment.Placed, one)
	first := b.must(payment.Reserved, one, "payment.authorized.v1")
	if got := b.account("c"); got != [2]int64{700, 300} {
		t.Errorf("available and held are %v; want 700, 300", got)
	}
	second := b.must(payment.Confirmed, one, "payment.captured.v1")
	if first[0].Sequence != 1 || second[0].Sequence != 2 {
		t.Errorf("sequences %d, %d; want 1, 2", first[0].Sequence, second[0].Sequence)
	}
	two := placed("o-void", "c", 200)
	b.must(payment.Reserved, two)
	b.must(payment.Placed, two, "payment.authorized.v1")
	b.must(payment.Cancelled, two, "payment.voided.v1")
	b.must(payment.Cancelled, two)
	if got := b.account("c"); got != [2]int64{700, 0} {
		t.Errorf("available and held are %v; want 700, 0", got)
	}
	_, transfers, err := b.s.Payment(t.Context(), "o-void")
	if err != nil || len(transfers) != 2 || transfers[0].Kind != "authorize" || transfers[1].Kind != "void" || transfers[1].Amount != 200 {
		t.Errorf("transfers %+v, %v; want authorize and void of 200", transfers, err)
	}
	b.sound()
}

func TestAuthorize_MoneyCannotBeHad_DeclinesWithAReasonForPeople(t *testing.T) {
	t.Parallel()
	b := newBench(t, 300, "c")
	foreign := placed("o-4", "c", 1)
	foreign.Total.Currency = "USD"
	card := placed("o-3", "c", 1)
	card.PaymentMethod = "card"
	for want, o := range map[string]contract.OrderPlaced{
		"the wallet holds 3.00 EUR, the order costs 5.00 EUR": placed("o-1", "c", 500),
		"customer nobody has no wallet in EUR":                placed("o-2", "nobody", 1),
		`there is no payment method "card"`:                   card,
		"customer c has no wallet in USD":                     foreign,
	} {
		b.must(payment.Placed, o)
		events := b.must(payment.Reserved, o, "payment.declined.v1")
		if got, _ := events[0].Event.(contract.PaymentDeclined); got.Reason != want {
			t.Errorf("reason %q; want %q", got.Reason, want)
		}
		b.must(payment.Cancelled, o)
	}
	if got := b.account("c"); got != [2]int64{300, 0} {
		t.Errorf("available and held are %v; want 300, 0", got)
	}
	b.sound()
}

func TestVoid_BeforeAnythingIsHeld_TombstoneRefusesTheLateAuthorisation(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1000, "c")
	o := placed("o-1", "c", 300)
	b.must(payment.Cancelled, o)
	b.must(payment.Reserved, o)
	b.must(payment.Placed, o)
	if got := b.state("o-1"); got != payment.StateRefused {
		t.Errorf("state %s; want refused", got)
	}
	if got := b.account("c"); got != [2]int64{1000, 0} {
		t.Errorf("available and held are %v; want 1000, 0", got)
	}
}

func TestCapture_NothingHeld_FaultLeavesNoRow(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1000, "c")
	if _, err := b.tell(payment.Confirmed, placed("o-1", "c", 1)); fault.ClassOf(err) != fault.ClassPermanent {
		t.Errorf("got %v; want a permanent fault", err)
	}
	if _, _, err := b.s.Payment(t.Context(), "o-1"); fault.ClassOf(err) != fault.ClassNotFound {
		t.Errorf("got %v; want not found", err)
	}
}

// Each order of delivery, with every fact delivered twice, ends the same. Whether
// money was held in between depends on the order; where it is in the end does not.
func TestReactions_EveryPermutationWithDuplicates_EndsTheSame(t *testing.T) {
	t.Parallel()
	type end struct {
		left     [2]int64 // available and held
		captured bool
		most     bool // at most two events were told
	}
	b := newBench(t, 500)
	for i, set := range []struct {
		last   payment.Fact
		amount int64
		ends   []payment.State
		end    end
	}{
		{payment.Confirmed, 300, []payment.State{payment.StateCaptured}, end{[2]int64{200, 0}, true, true}},
		{payment.Cancelled, 300, []payment.State{payment.StateVoided, payment.StateRefused}, end{[2]int64{500, 0}, false, true}},
		{payment.Cancelled, 900, []payment.State{payment.StateDeclined, payment.StateRefused}, end{[2]int64{500, 0}, false, true}},
	} {
		sagatest.RequireSameEnd(t, set.end, []payment.Fact{payment.Placed, payment.Reserved, set.last}, func(n int) sagatest.Run[payment.Fact, end] {
			customer := fmt.Sprintf("c-%d-%d", i, n)
			b.open(500, customer)
			o := placed("o-"+customer, customer, set.amount)
			return sagatest.Run[payment.Fact, end]{
				Tell: func(f payment.Fact) ([]event.Numbered, error) { return b.tell(f, o) },
				End: func(told []event.Numbered) end {
					state := b.state(o.OrderID)
					if !slices.Contains(set.ends, state) {
						t.Errorf("order %s ends as %s, want one of %v", o.OrderID, state, set.ends)
					}
					return end{b.account(customer), state == payment.StateCaptured, len(told) <= 2}
				},
			}
		})
	}
	b.sound()
}

// 200 orders of 1.00 on a wallet with 10.00: ten are authorised.
func TestAuthorize_200OrdersOnOneWallet_NeverOverdraws(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1000, "c")
	kinds := sagatest.AtOnce(t, 8, 200, func(n int) ([]event.Numbered, error) {
		o := placed(fmt.Sprintf("o-%d", n), "c", 100)
		if _, err := b.tell(payment.Placed, o); err != nil {
			return nil, err
		}
		return b.tell(payment.Reserved, o)
	})
	if kinds["payment.authorized.v1"] != 10 || kinds["payment.declined.v1"] != 190 {
		t.Errorf("told %v; want 10 authorised and 190 declined", kinds)
	}
	if got := b.account("c"); got != [2]int64{0, 1000} {
		t.Errorf("available and held are %v; want 0, 1000", got)
	}
	b.sound()
}

func TestAuthorize_AnotherOrderIsTakingTheLastMoney_WaitsAndDeclines(t *testing.T) {
	t.Parallel()
	b := newBench(t, 100, "c")
	first, second := placed("o-1", "c", 100), placed("o-2", "c", 100)
	b.must(payment.Placed, first)
	b.must(payment.Placed, second)
	type answer struct {
		events []event.Numbered
		err    error
	}
	late := make(chan answer, 1)
	err := b.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := b.s.AuthorizeReserved(ctx, tx, contract.InventoryReserved{OrderID: first.OrderID}); err != nil {
			return err
		}
		go func() {
			events, err := b.tell(payment.Reserved, second)
			late <- answer{events, err}
		}()
		await.True(t, waitLimit, "the second order waits for the first", func() bool { return b.waiting() > 0 || len(late) > 0 })
		return nil
	})
	got := <-late
	if err := errors.Join(err, got.err); err != nil {
		t.Fatal(err)
	}
	if len(got.events) != 1 || got.events[0].Event.Kind() != "payment.declined.v1" {
		t.Errorf("told %v; want that the second order is declined", got.events)
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

// Orders of one customer, their facts in random order and from several
// goroutines at once: nothing deadlocks and every cent is accounted for.
func TestReactions_RandomFactsAtOnce_MoneyIsConserved(t *testing.T) {
	t.Parallel()
	b := newBench(t, 5000, "c")
	sagatest.AtOnce(t, 8, 1000, func(n int) ([]event.Numbered, error) {
		r := rand.New(rand.NewPCG(11, uint64(n)))
		i := r.IntN(200)
		o := placed(fmt.Sprintf("o-%d", i), "c", int64(100+i))
		events, err := b.tell(payment.Fact(r.IntN(4)), o)
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

func TestSeedDemo_Again_ChangesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	for range 2 {
		if err := b.s.SeedDemo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for customer, want := range map[string][2]int64{"cust-01": {100_000_000, 0}, "cust-19": {100_000_000, 0}, "cust-20": {0, 0}} {
		if got := b.account(customer); got != want {
			t.Errorf("%s has %v; want %v", customer, got, want)
		}
	}
	b.sound()
}
