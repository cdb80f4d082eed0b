package audit

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pavane/shared/broker"
)

const (
	orders    = "orders.events.v1"
	payments  = "payments.events.v1"
	inventory = "inventory.events.v1"
)

var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// sound is a system with three orders: "yes" confirmed, "no" cancelled by its
// customer after the authorisation, "dry" out of stock.
func sound() *Data {
	d := &Data{
		Now: start.Add(time.Minute), Partitions: 6, Bounds: map[Part]Bounds{}, Begins: map[Part]time.Time{},
		Services: []Service{
			{Name: "order-svc", Reads: []string{inventory, payments}},
			{Name: "payment-svc", Reads: []string{orders, inventory}},
			{Name: "inventory-svc", Reads: []string{orders, payments}},
			{Name: "notification-svc", Reads: []string{orders, payments}},
		},
		Orders: map[string]Order{
			"yes": {
				ID: "yes", State: confirmed, Total: 500, Items: map[string]int64{"tea": 2}, Version: 2, Decided: start,
				Noted: map[string]bool{"captured": true, "shipped": true},
			},
			"no": {
				ID: "no", State: cancelled, Reason: "customer", Total: 300, Items: map[string]int64{"mug": 1}, Version: 2, Decided: start,
				Noted: map[string]bool{"voided": true, "released": true},
			},
			"dry": {
				ID: "dry", State: cancelled, Reason: "out_of_stock", Total: 100, Items: map[string]int64{"card": 1}, Version: 2, Decided: start,
				Noted: map[string]bool{},
			},
		},
		Payments: map[string]Payment{
			"yes": {OrderID: "yes", State: "captured", Method: "card", Version: 2, Moved: map[string]int64{"authorize": 500, "capture": 500}},
			"no":  {OrderID: "no", State: "voided", Method: "card", Version: 2, Moved: map[string]int64{"authorize": 300, "void": 300}},
			"dry": {OrderID: "dry", State: "refused"},
		},
		Charges: map[string]Charge{"yes": {"yes", "capture", "captured"}, "no": {"no", "void", "voided"}},
		Ledger: []Charged{
			{Key: "yes", Reference: "yes", State: "captured", Amount: 500, Captures: 1},
			{Key: "no", Reference: "no", State: "voided", Amount: 300},
			{Key: "gone", State: "voided"},
		},
		HasLedger: true,
		Reservations: map[string]Reservation{
			"yes": {OrderID: "yes", State: "shipped", Version: 2, Moved: map[string]map[string]int64{"reserve": {"tea": 2}, "ship": {"tea": 2}}},
			"no":  {OrderID: "no", State: "released", Version: 2, Moved: map[string]map[string]int64{"reserve": {"mug": 1}, "release": {"mug": 1}}},
			"dry": {OrderID: "dry", State: "rejected", Version: 1},
		},
		Accounts: []Account{
			{ID: "funding:EUR", Kind: "funding", Currency: "EUR", Balance: -1000, Entries: -1000},
			{ID: "customer:c:EUR", Kind: "customer", Currency: "EUR", Balance: 500, Entries: 500},
			{ID: "merchant:EUR", Kind: "merchant", Currency: "EUR", Balance: 500, Entries: 500},
		},
		Stock: []Stock{{SKU: "tea", Available: 8, Sold: 2, Received: 10, Ships: 2}, {SKU: "mug", Available: 5, Received: 5}},
		Mails: map[string]map[string]Mail{
			"yes": {confirmed: {State: "sent"}, "receipt": {State: "sent"}},
			"no":  {cancelled: {State: "sent"}},
			"dry": {cancelled: {State: "pending"}},
		},
	}
	for i := range d.Services {
		s := &d.Services[i]
		s.Source, s.Inbox, s.Offsets = "/"+s.Name, map[Stream]int64{}, map[Part]int64{}
	}
	for _, key := range []string{"yes", "no", "dry"} {
		add(d, 0, orders, key, "order.placed.v1")
	}
	add(d, 2, inventory, "yes", "inventory.reserved.v1", "inventory.shipped.v1")
	add(d, 1, payments, "yes", "payment.authorized.v1", "payment.captured.v1")
	add(d, 0, orders, "yes", "order.confirmed.v1")
	add(d, 2, inventory, "no", "inventory.reserved.v1", "inventory.released.v1")
	add(d, 1, payments, "no", "payment.authorized.v1", "payment.voided.v1")
	add(d, 0, orders, "no", "order.cancelled.v1")
	add(d, 2, inventory, "dry", "inventory.rejected.v1")
	add(d, 0, orders, "dry", "order.cancelled.v1")
	slices.SortFunc(d.Log, func(a, b Record) int {
		return strings.Compare(a.Topic, b.Topic)*1000 + int(a.Partition-b.Partition)*100 + int(a.Offset-b.Offset)
	})
	return d
}

// add publishes events: as rows, as records, and as applied by all who read them.
func add(d *Data, publisher int, topic, key string, kinds ...string) {
	s := &d.Services[publisher]
	for _, kind := range kinds {
		sequence := int64(1)
		for _, r := range s.Rows {
			if r.Stream.Key == key {
				sequence++
			}
		}
		st, p := Stream{s.Source, key}, Part{topic, broker.Partition([]byte(key), d.Partitions)}
		b := d.Bounds[p]
		same := Sum{byte(publisher), byte(len(s.Rows) + 1)}
		s.Rows = append(s.Rows, Row{ID: int64(len(s.Rows) + 1), Topic: topic, Stream: st, Sequence: sequence, Kind: kind, Sum: same, Time: start})
		d.Log = append(d.Log, Record{Topic: topic, Partition: p.Partition, Offset: b.End, Stream: st, Sequence: sequence, Kind: kind, Sum: same, Time: start})
		b.End++
		d.Bounds[p], d.Begins[p] = b, start
		for i := range d.Services {
			if slices.Contains(d.Services[i].Reads, topic) {
				d.Services[i].Inbox[st] = sequence
				d.Services[i].Offsets[p] = b.End
			}
		}
	}
}

func TestAudit_SoundSystemIsClean(t *testing.T) {
	t.Parallel()
	if found := All(sound()); len(found) != 0 {
		t.Fatalf("found %+v", found)
	}
}

// record finds a record of the log by key and kind.
func record(d *Data, key, kind string) *Record {
	i := slices.IndexFunc(d.Log, func(r Record) bool { return r.Stream.Key == key && r.Kind == kind })
	return &d.Log[i]
}

func TestAudit_EachCorruptionIsNamed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, check, text string
		corrupt           func(d *Data)
	}{
		{"lost record", "outbox-in-log", "(order.confirmed.v1, /order-svc yes #2) is not in orders.events.v1", func(d *Data) {
			d.Log = slices.DeleteFunc(d.Log, func(r Record) bool { return r.Kind == "order.confirmed.v1" })
		}},
		{"duplicate record", "outbox-in-log", "is in the log 2 times", func(d *Data) { d.Log = append(d.Log, *record(d, "yes", "order.confirmed.v1")) }},
		{"duplicate record in order", "log-order", "comes again after", func(d *Data) { d.Log = append(d.Log, *record(d, "yes", "order.confirmed.v1")) }},
		{"changed bytes", "outbox-in-log", "has other bytes", func(d *Data) { record(d, "yes", "order.placed.v1").Sum[3]++ }},
		{"other topic", "outbox-in-log", "is for orders.events.v1 but lies in payments.events.v1", func(d *Data) { record(d, "dry", "order.placed.v1").Topic = payments }},
		{"uncommitted record", "log-in-outbox", "has no outbox row", func(d *Data) { d.Services[0].Rows = d.Services[0].Rows[:5] }},
		{"inverted key", "log-order", "comes after #2", func(d *Data) {
			a, b := record(d, "yes", "payment.authorized.v1"), record(d, "yes", "payment.captured.v1")
			*a, *b = *b, *a
		}},
		{"hole in the key", "log-order", "those between are missing", func(d *Data) { record(d, "yes", "payment.captured.v1").Sequence = 3 }},
		{"key without its begin", "log-order", "is the first of its key", func(d *Data) { record(d, "dry", "inventory.rejected.v1").Sequence = 2 }},
		{"wrong partition", "log-records", "belongs into partition", func(d *Data) { r := record(d, "yes", "order.placed.v1"); r.Partition = (r.Partition + 1) % 6 }},
		{"foreign record", "log-records", "is no event", func(d *Data) { d.Log[0].Fault = "the record is no event" }},
		{"hole in the outbox", "outbox-dense", "follows row", func(d *Data) { d.Services[1].Rows[1].Sequence = 3 }},
		{"event not applied", "inbox", "inventory-svc has applied yes of /order-svc up to #1; the log goes to #2 (order.confirmed.v1", func(d *Data) {
			d.Services[2].Inbox[Stream{"/order-svc", "yes"}] = 1
		}},
		{"applied what is not in the log", "inbox", "up to #9", func(d *Data) { d.Services[2].Inbox[Stream{"/order-svc", "yes"}] = 9 }},
		{"unread partition", "offsets", "payment-svc has read orders.events.v1", func(d *Data) { clear(d.Services[1].Offsets) }},
		{"another log", "offsets", "it is another log", func(d *Data) {
			d.Services[1].Offsets[Part{orders, broker.Partition([]byte("yes"), 6)}] = 99
		}},
		{"parked record", "parked", "payment-svc has parked yes #2", func(d *Data) {
			d.Services[1].Parked = []Parked{{Stream: Stream{"/order-svc", "yes"}, Sequence: 2, Kind: "order.confirmed.v1", Reason: "boom"}}
		}},
		{"endless order", "ended", "order late is still placed, 30s after its deadline", func(d *Data) {
			d.Orders["late"] = Order{ID: "late", State: placed, Due: d.Now.Add(-30 * time.Second)}
		}},
		{"order without deadline", "ended", "has no deadline", func(d *Data) { d.Orders["late"] = Order{ID: "late", State: placed} }},
		{"never captured", "payments", "order yes confirmed, but its money was never captured: no payment.captured", func(d *Data) {
			d.Services[1].Rows = slices.DeleteFunc(d.Services[1].Rows, func(r Row) bool { return r.Kind == "payment.captured.v1" })
			d.Payments["yes"] = Payment{State: "authorized", Version: 1, Moved: map[string]int64{"authorize": 500}}
		}},
		{"captured too much", "payments", "confirmed for 500, but 700 was captured", func(d *Data) {
			d.Payments["yes"] = Payment{State: "captured", Version: 2, Moved: map[string]int64{"authorize": 700, "capture": 700}}
		}},
		{"captured though cancelled", "payments", "order no cancelled (customer), but 300 was captured", func(d *Data) {
			d.Payments["no"] = Payment{State: "captured", Version: 2, Moved: map[string]int64{"authorize": 300, "capture": 300}}
		}},
		{"never voided", "payments", "300 of its money is still held: no payment.voided", func(d *Data) {
			d.Services[1].Rows = slices.DeleteFunc(d.Services[1].Rows, func(r Row) bool { return r.Kind == "payment.voided.v1" })
			d.Payments["no"] = Payment{State: "authorized", Version: 1, Moved: map[string]int64{"authorize": 300}}
		}},
		{"no tombstone of the payment", "payments", "would still authorise it", func(d *Data) { delete(d.Payments, "dry") }},
		{"payment of nothing", "payments", "for an order that does not exist", func(d *Data) {
			d.Payments["ghost"] = Payment{State: "authorized", Moved: map[string]int64{"authorize": 1}}
		}},
		{"never shipped", "reservations", "order yes confirmed, but its items were never shipped", func(d *Data) {
			d.Reservations["yes"] = Reservation{State: "reserved", Version: 1, Moved: map[string]map[string]int64{"reserve": {"tea": 2}}}
		}},
		{"shipped something else", "reservations", "confirmed for tea×2, but mug×1 were shipped", func(d *Data) {
			d.Reservations["yes"] = Reservation{State: "shipped", Version: 2, Moved: map[string]map[string]int64{"reserve": {"mug": 1}, "ship": {"mug": 1}}}
		}},
		{"never released", "reservations", "order no cancelled (customer), but its stock (mug×1) was never released: no inventory.released", func(d *Data) {
			d.Services[2].Rows = slices.DeleteFunc(d.Services[2].Rows, func(r Row) bool { return r.Kind == "inventory.released.v1" })
			d.Reservations["no"] = Reservation{State: "reserved", Version: 1, Moved: map[string]map[string]int64{"reserve": {"mug": 1}}}
		}},
		{"no tombstone of the reservation", "reservations", "would still reserve", func(d *Data) { delete(d.Reservations, "dry") }},
		{"card never charged", "charges", `order yes confirmed, but its card charge is "held"`, func(d *Data) { d.Charges["yes"] = Charge{"yes", "capture", "held"} }},
		{"charge of a cancelled order stands", "charges", `its card charge is "held" and was to be "void"`, func(d *Data) { d.Charges["no"] = Charge{"no", "void", "held"} }},
		{"provider never asked to void", "charges", `its card charge is "none"`, func(d *Data) { d.Charges["no"] = Charge{"no", "void", "none"} }},
		{"charge for a wallet", "charges", "is not paid by card", func(d *Data) { d.Charges["dry"] = Charge{"dry", "void", "voided"} }},
		{"captured two times", "provider", "but the provider took 1000 in 2 captures", func(d *Data) { d.Ledger[0].Captures = 2 }},
		{"captured under two keys", "provider", "in 2 captures", func(d *Data) {
			d.Ledger = append(d.Ledger, Charged{Key: "yes-2", Reference: "yes", State: "captured", Amount: 500, Captures: 1})
		}},
		{"provider took less", "provider", "confirmed for 500 by card, but the provider took 499", func(d *Data) { d.Ledger[0].Amount = 499 }},
		{"provider knows nothing", "provider", "took 0 in 0 captures", func(d *Data) { d.Ledger = nil }},
		{"provider took it all the same", "provider", "order no cancelled, but the provider took 300", func(d *Data) { d.Ledger[1].Captures = 1 }},
		{"provider still holds", "provider", "order no cancelled, but the provider still holds", func(d *Data) { d.Ledger[1].State = "held" }},
		{"provider took for nobody", "provider", "for gone, which is no order", func(d *Data) {
			d.Ledger[2] = Charged{Key: "gone", Reference: "gone", State: "captured", Captures: 1}
		}},
		{"event without its row's version", "versions", "payment-svc: the row of yes says 3 events were published, its outbox has 2", func(d *Data) {
			p := d.Payments["yes"]
			p.Version = 3
			d.Payments["yes"] = p
		}},
		{"order does not know", "noted", "shipped is true in truth and false in its row", func(d *Data) { delete(d.Orders["yes"].Noted, "shipped") }},
		{"balance changed by hand", "money", "account customer:c:EUR has a balance of 501", func(d *Data) { d.Accounts[1].Balance = 501 }},
		{"money from nowhere", "money", "sum to 7, not to zero", func(d *Data) { d.Accounts[1].Balance, d.Accounts[1].Entries = 507, 507 }},
		{"overdrawn", "money", "is overdrawn", func(d *Data) { d.Accounts[1].Balance = -1 }},
		{"one-legged transfer", "money", "transfer 7 (capture of yes)", func(d *Data) {
			d.Transfers = []Transfer{{ID: 7, Kind: "capture", Order: "yes", Sum: 3, Legs: 1}}
		}},
		{"stock from nowhere", "stock", "but 10 came in", func(d *Data) { d.Stock[0].Available = 9 }},
		{"stock against the ledger", "stock", "the ledger says", func(d *Data) { d.Stock[0].Available, d.Stock[0].Reserved = 7, 1 }},
		{"reservation without stock", "stock", "open reservations hold 2", func(d *Data) {
			d.Stock[0].Open = 2
		}},
		{"mail forgotten", "mails", `no "receipt" mail`, func(d *Data) { delete(d.Mails["yes"], "receipt") }},
		{"mail too many", "mails", `but a "confirmed" mail was written`, func(d *Data) { d.Mails["no"][confirmed] = Mail{} }},
		{"mail without address", "mails", "does not know where to go", func(d *Data) { d.Mails["no"][cancelled] = Mail{State: "held"} }},
	}
	for _, c := range Checks() {
		if !slices.ContainsFunc(tests, func(tc struct {
			name, check, text string
			corrupt           func(d *Data)
		},
		) bool {
			return tc.check == c.Name
		}) {
			t.Errorf("no corruption here makes the check %q fail", c.Name)
		}
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := sound()
			tc.corrupt(d)
			found := All(d)
			if !slices.ContainsFunc(found, func(f Difference) bool { return f.Check == tc.check && strings.Contains(f.Text, tc.text) }) {
				t.Fatalf("want %s: …%s…, found %+v", tc.check, tc.text, found)
			}
		})
	}
}

// What is stamped later than the end of the look was written while the database's
// clock was ahead. It is not young.
func TestAudit_ClockHasGoneBack_NothingPassesUnjudged(t *testing.T) {
	t.Parallel()
	d := sound()
	d.Now, d.End = start.Add(-time.Hour), start.Add(-time.Hour+time.Second)
	d.Mails = nil
	if found := All(d); len(found) == 0 {
		t.Error("all mails are missing, and nothing was found")
	}
}

func TestAudit_WhatIsOnItsWayIsNotJudged(t *testing.T) {
	t.Parallel()
	d := sound()
	d.Now, d.Grace = start.Add(time.Second), 2*time.Second
	d.Log = nil
	for i := range d.Services {
		clear(d.Services[i].Inbox)
		clear(d.Services[i].Offsets)
	}
	d.Payments, d.Reservations, d.Mails = nil, nil, nil
	if found := All(d); len(found) != 0 {
		t.Fatalf("found %+v", found)
	}
}

// An order that is placed while the audit reads is not among the orders, and what
// others hold for it is there.
func TestAudit_OrderPlacedAfterTheOrdersWereRead_IsNotJudged(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		placed time.Time
		clean  bool
	}{"meanwhile": {start.Add(61 * time.Second), true}, "long before": {start, false}} {
		d := sound()
		delete(d.Orders, "yes")
		d.Services[0].Rows = slices.DeleteFunc(d.Services[0].Rows, func(r Row) bool { return r.Stream.Key == "yes" })
		d.Services[1].Rows = slices.DeleteFunc(d.Services[1].Rows, func(r Row) bool { return r.Stream.Key == "yes" })
		d.Services[2].Rows = slices.DeleteFunc(d.Services[2].Rows, func(r Row) bool { return r.Stream.Key == "yes" })
		for i := range d.Log {
			if d.Log[i].Stream.Key == "yes" {
				d.Log[i].Time = test.placed
			}
		}
		found := map[string]bool{}
		for _, f := range All(d) {
			found[f.Check] = true
		}
		for _, check := range []string{"payments", "reservations", "provider"} {
			if found[check] == test.clean {
				t.Errorf("placed %s: %s found something: %t", name, check, found[check])
			}
		}
	}
}

// A partition whose log has been cut at its old end excuses what is as old, there.
func TestAudit_LogHasDroppedOldRecords_OnlyWhatIsAsOldIsExcused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		dropped string // key in whose partition
		age     time.Duration
		clean   bool
	}{
		"as old":               {"yes", -time.Second, true},
		"younger":              {"yes", time.Second, false},
		"of another partition": {"no", -time.Second, false},
	} {
		d := sound()
		lost := record(d, "yes", "payment.captured.v1").id()
		d.Log = slices.DeleteFunc(d.Log, func(r Record) bool { return r.id() == lost })
		for i := range d.Services[1].Rows {
			if r := &d.Services[1].Rows[i]; r.id() == lost {
				r.Time = start.Add(test.age)
			}
		}
		p := Part{payments, broker.Partition([]byte(test.dropped), d.Partitions)}
		d.Bounds[p] = Bounds{1, d.Bounds[p].End}
		found := slices.ContainsFunc(All(d), func(f Difference) bool { return strings.Contains(f.Text, "is not in "+payments) })
		if found == test.clean {
			t.Errorf("%s: found %t", name, found)
		}
	}
}
