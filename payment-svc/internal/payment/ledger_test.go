package payment_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"pavane/payment-svc/internal/payment"
	"pavane/shared/contract"
)

func TestDatabase_UnsoundWrite_IsRefused(t *testing.T) {
	t.Parallel()
	// transfer books the legs "from account amount, to account amount".
	transfer := func(kind, order, legs string) string {
		return fmt.Sprintf(`with t as (insert into transfers (kind, order_id) values ('%s', '%s') returning transfer_id)
insert into entries (transfer_id, leg, account_id, amount) select t.transfer_id, l.* from t, (values %s) as l`, kind, order, legs)
	}
	cases := []struct{ name, sql, says string }{
		{"balance without an entry", `update accounts set balance = balance + 1 where account_id = 'customer:c:EUR'`, "book a transfer"},
		{"money moved without entries", `update accounts set balance = case kind when 'held' then balance - 1 else balance + 1 end where customer_id = 'c'`, "book a transfer"},
		{"new account with money", `insert into accounts (account_id, kind, customer_id, currency, balance) values ('customer:new:EUR', 'customer', 'new', 'EUR', 5)`, "book a deposit"},
		{"customer turned into funding", `update accounts set kind = 'funding', customer_id = null, currency = 'XXX' where account_id = 'customer:c:EUR'`, "book a transfer"},
		{"account taken away", `delete from accounts where account_id = 'customer:d:EUR'`, "history"},
		{"more than there is", transfer("authorize", "o-2", `(1, 'customer:c:EUR', -701), (2, 'held:c:EUR', 701)`), "accounts_covered"},
		{"sum not zero", transfer("authorize", "o-2", `(1, 'customer:c:EUR', -100), (2, 'held:c:EUR', 101)`), "unsound"},
		{"one entry", transfer("authorize", "o-2", `(1, 'customer:c:EUR', -100)`), "unsound"},
		{"no entries", `insert into transfers (kind, order_id) values ('authorize', 'o-2')`, "unsound"},
		{"a third entry", `insert into entries (transfer_id, leg, account_id, amount) select transfer_id, 3, 'customer:c:EUR', 5 from transfers where order_id = 'o-1'`, "entries_direction"},
		{"an entry again", `insert into entries (transfer_id, leg, account_id, amount) select transfer_id, 2, 'customer:c:EUR', 5 from transfers where order_id = 'o-1'`, "entries_pkey"},
		{"another customer's", transfer("authorize", "o-2", `(1, 'customer:c:EUR', -100), (2, 'held:d:EUR', 100)`), "unsound"},
		{"the wrong way", transfer("authorize", "o-2", `(1, 'held:c:EUR', -100), (2, 'customer:c:EUR', 100)`), "unsound"},
		{"authorised twice", transfer("authorize", "o-1", `(1, 'customer:c:EUR', -100), (2, 'held:c:EUR', 100)`), "transfers_once"},
		{"captured, never authorised", transfer("capture", "o-2", `(1, 'held:c:EUR', -100), (2, 'merchant:EUR', 100)`), "transfers_settle"},
		{"captured less", transfer("capture", "o-1", `(1, 'held:c:EUR', -299), (2, 'merchant:EUR', 299)`), "does not settle"},
		{"captured and voided", transfer("capture", "o-1", `(1, 'held:c:EUR', -300), (2, 'merchant:EUR', 300)`) + ";" +
			transfer("void", "o-1", `(1, 'held:c:EUR', -300), (2, 'customer:c:EUR', 300)`), "transfers_settled_once"},
		{"deposit for an order", transfer("deposit", "o-2", `(1, 'funding:EUR', -300), (2, 'customer:c:EUR', 300)`), "transfers_belong"},
		{"entry changed", `update entries set amount = 0`, "entries stand"},
		{"entry deleted", `delete from entries`, "entries stand"},
		{"transfer changed", `update transfers set order_id = 'o-2' where order_id = 'o-1'`, "transfers stand"},
		{"ledger emptied", `truncate transfers cascade`, "entries stand"},
		{"card money given to a wallet", transfer("void", "o-3", `(1, 'held:c:EUR', -50), (2, 'customer:c:EUR', 50)`), "does not settle"},
		{"wallet money given to a card", transfer("void", "o-1", `(1, 'held:c:EUR', -300), (2, 'card:EUR', 300)`), "does not settle"},
		{"card to a wallet", transfer("authorize", "o-2", `(1, 'card:EUR', -100), (2, 'customer:c:EUR', 100)`), "it goes from card to customer"},
		{"a charge wanted otherwise", `update charges set wanted = 'refund'`, "charges_wanted_check"},
		{"authorised before its time", `update payments set state = 'authorized' where order_id = 'o-2'`, "payments_in_time"},
	}
	b := newBench(t, 1000, "c", "d")
	o := placed("o-1", "c", 300)
	b.must(payment.Placed, o)
	b.must(payment.Reserved, o, "payment.authorized.v1")
	b.must(payment.Placed, placed("o-2", "c", 100))
	b.holdByCard(placed("o-3", "c", 50))
	if err := b.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, `insert into charges (order_id) values ('o-3')`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		err := b.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, c.sql)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v; want a refusal with %q", c.name, err, c.says)
		}
	}
	if got := b.account("c"); got != [2]int64{700, 350} {
		t.Errorf("available and held are %v; want 700, 350", got)
	}
	b.sound()
}

// holdByCard books what a provider holds for an order.
func (b bench) holdByCard(o contract.OrderPlaced) {
	b.t.Helper()
	b.must(payment.Placed, o)
	p := payment.Payment{OrderID: o.OrderID, CustomerID: o.CustomerID, Amount: o.Total.Amount, Currency: o.Total.Currency}
	err := b.db.InTx(b.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if err := (payment.Card{}).Book(ctx, tx, payment.StepAuthorize, p); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `update payments set state = 'authorized', has_reserved = true where order_id = $1`, o.OrderID)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}
