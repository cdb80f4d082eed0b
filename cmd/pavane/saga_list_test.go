package main

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"pavane/cmd/pavane/internal/doctor"
	"pavane/shared/migrate"
	"pavane/shared/pgtest"
)

// served is a database of a service with these rows.
func served(t *testing.T, service, name string, rows ...string) place {
	t.Helper()
	url := pgtest.URL(t)
	db := pgtest.Open(t, url)
	for _, set := range migrationsOf(service) {
		if err := migrate.Up(t.Context(), db.SQL(), set.Files, set.Table); err != nil {
			t.Fatal(err)
		}
	}
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		for _, row := range rows {
			if _, err := tx.ExecContext(ctx, row); err != nil {
				return fmt.Errorf("%s: %w", row, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return place{service, name, url}
}

// number is the id of the nth order.
func number(n int) string { return fmt.Sprintf("00000000-0000-7000-8000-%012d", n) }

// ordered is the row of an order that was decided n hours ago, or is placed.
func ordered(n int, state string) string {
	rest := map[string]string{"placed": "null, null, 1", "confirmed": "null, %s, 2", "cancelled": "'customer', %s, 2"}[state]
	rest = strings.ReplaceAll(rest, "%s", fmt.Sprintf("clock_timestamp() - interval '%d hours'", n))
	return fmt.Sprintf(`insert into orders (order_id, customer_id, email, items, total, currency, payment_method, placed_at, state, reason, decided_at, version)
values ('%s', 'c', 'c@example.org', '[{"sku": "tea", "quantity": 1, "unit_price": 5}]', 5, 'EUR', 'wallet', clock_timestamp() - interval '%d hours', '%s', %s)`, number(n), n, state, rest)
}

func paid(n int, state string) string {
	return fmt.Sprintf(`insert into payments (order_id, state, has_placed, has_reserved, customer_id, currency, updated_at)
values ('%s', '%s', true, true, 'c', 'EUR', clock_timestamp() - interval '%d hours')`, number(n), state, n)
}

func stocked(n int, state string) string {
	return fmt.Sprintf(`insert into reservations (order_id, state, updated_at) values ('%s', '%s', clock_timestamp() - interval '%d hours')`, number(n), state, n)
}

// seconds are those of the test itself in a time of hours.
var seconds = regexp.MustCompile(`(\dh)\d+m\d+s`)

func TestSagaList_EachOpenOrder_SaysForWhomItWaits(t *testing.T) {
	t.Parallel()
	all := []place{
		served(t, "order-svc", "orders", `insert into customers values ('c', 'C', 'c@example.org')`,
			ordered(9, "placed"), fmt.Sprintf(`insert into deadlines values ('%s', clock_timestamp() - interval '8 hours', now())`, number(9)),
			ordered(8, "placed"), ordered(7, "placed"), ordered(6, "confirmed"), ordered(5, "cancelled"), ordered(4, "cancelled"),
			ordered(3, "confirmed"), ordered(2, "confirmed")),
		served(t, "payment-svc", "payments", paid(8, "waiting"), paid(7, "authorized"), paid(6, "authorized"), paid(5, "authorized"), paid(4, "waiting"),
			paid(3, "captured"), paid(2, "captured")),
		served(t, "inventory-svc", "inventory", stocked(8, "reserved"), stocked(7, "reserved"), stocked(6, "reserved"), stocked(5, "reserved"),
			stocked(3, "shipped"), stocked(2, "shipped")),
		served(t, "notification-svc", "notifications", fmt.Sprintf(`insert into parked (source, key, sequence, topic, partition, record_offset, type, headers, payload, reason, cause)
values ('/order-svc', '%s', 2, 'orders', 1, 7, 'order.confirmed.v1', '', '', 'no such address', 'fault')`, number(3))),
	}
	open, err := loadOpen(t.Context(), all, "")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		number(9) + " placed: inventory-svc to reserve the stock; its deadline was 8h ago",
		number(8) + " placed: payment-svc to authorise the payment",
		number(7) + " placed: order-svc to confirm",
		number(6) + " confirmed: payment-svc to capture the payment; inventory-svc to ship the stock",
		number(5) + " cancelled: payment-svc to void the payment; inventory-svc to release the stock",
		number(4) + " cancelled: payment-svc to hear of the cancellation",
		number(3) + " confirmed: parked in notification-svc: fault: no such address",
	}
	var got []string
	for i, o := range open {
		got = append(got, fmt.Sprintf("%s %s: %s", o.Order, o.State, seconds.ReplaceAllString(strings.Join(o.Waits, "; "), "$1")))
		if hours := int(o.Still) / 3600; hours != 9-i {
			t.Errorf("nothing has happened to order %s for %d hours, want %d", o.Order, hours, 9-i)
		}
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("listed are\n%s\nwant\n%s", g, w)
	}
	for i, o := range open {
		one, err := loadOpen(t.Context(), all, o.Order)
		if err != nil || len(one) != 1 || one[0].Order != o.Order || seconds.ReplaceAllString(strings.Join(one[0].Waits, "; "), "$1") != strings.SplitN(want[i], ": ", 2)[1] {
			t.Errorf("of order %s alone it is said: %+v, %v; want %s", o.Order, one, err, want[i])
		}
	}
	for order, says := range map[string]string{number(7): "still to come: order-svc to confirm", number(2): "still to come: nothing: the saga has ended"} {
		var out bytes.Buffer
		if err := tellWhatIsToCome(t.Context(), &out, order, all); err != nil || !strings.Contains(out.String(), says) {
			t.Errorf("told is %q, %v; want %q", &out, err, says)
		}
	}
	wantBad(t, []doctor.Finding{examineSagas(t.Context(), all)}, 1, "7 of 7 that are open stand still")
	c := root()
	var out bytes.Buffer
	c.SetOut(&out)
	args := []string{"saga", "list", "--older", "7h30m", "--limit", "1"}
	for _, p := range all {
		args = append(args, "--database", p.service+"="+p.url)
	}
	c.SetArgs(args)
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{number(9), "placed", "9h0m", "and 1 more"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
}

func TestSagaList_OrdersCannotBeRead_ListsWhatOthersHoldAndSaysSo(t *testing.T) {
	t.Parallel()
	all := []place{{"order-svc", "orders", nowhere + "orders"}, served(t, "payment-svc", "payments", paid(1, "authorized"))}
	open, err := loadOpen(t.Context(), all, "")
	wantUnread(t, err, "order-svc")
	if len(open) != 1 || open[0].State != "" || strings.Join(open[0].Waits, "") != "order-svc, for a payment" {
		t.Errorf("listed are %+v; want the order whose money is held", open)
	}
}
