package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	placed    = "placed"
	confirmed = "confirmed"
	cancelled = "cancelled"
)

// decided calls f for each order that has ended long enough ago.
func (d *Data) decided(f func(o Order, events map[string]bool)) {
	kinds := map[string]map[string]bool{}
	for _, s := range d.Services {
		for _, r := range s.Rows {
			if kinds[r.Stream.Key] == nil {
				kinds[r.Stream.Key] = map[string]bool{}
			}
			kinds[r.Stream.Key][strings.TrimSuffix(r.Kind, ".v1")] = true
		}
	}
	active := d.lastActivity()
	for _, key := range slices.Sorted(maps.Keys(d.Orders)) {
		if o := d.Orders[key]; o.State != placed && d.settled(o.Decided) && d.settled(active[key]) {
			f(o, kinds[key])
		}
	}
}

// because says which event would have been needed, when it was never published.
func because(events map[string]bool, kind string) string {
	if events[kind] {
		return ""
	}
	return ": no " + kind
}

func findEndless(d *Data, report reporter) {
	for _, key := range slices.Sorted(maps.Keys(d.Orders)) {
		o := d.Orders[key]
		if o.State == placed && !o.Due.IsZero() && d.past(o.Due) {
			report("order %s is still placed, %s after its deadline", key, d.Now.Sub(o.Due).Round(time.Millisecond))
		}
		if o.State == placed && o.Due.IsZero() {
			report("order %s is placed and has no deadline", key)
		}
	}
}

// young finds the keys that are known from young events only. The orders are read
// first and the log last, so such a key may be an order that was placed meanwhile.
func (d *Data) young() map[string]bool {
	young := map[string]bool{}
	for _, r := range d.Log {
		if r.Fault == "" {
			before, there := young[r.Stream.Key]
			young[r.Stream.Key] = !d.settled(r.Time) && (before || !there)
		}
	}
	return young
}

func findWrongPayments(d *Data, report reporter) {
	d.decided(func(o Order, events map[string]bool) {
		p, there := d.Payments[o.ID]
		captured, held := p.Moved["capture"], p.Moved["authorize"]-p.Moved["capture"]-p.Moved["void"]
		switch {
		case o.State == confirmed && (!there || p.State != "captured" || captured == 0):
			report("order %s confirmed, but its money was never captured%s", o.ID, because(events, "payment.captured"))
		case o.State == confirmed && captured != o.Total:
			report("order %s confirmed for %d, but %d was captured", o.ID, o.Total, captured)
		case o.State == cancelled && captured != 0:
			report("order %s cancelled (%s), but %d was captured", o.ID, o.Reason, captured)
		case o.State == cancelled && held != 0:
			report("order %s cancelled (%s), but %d of its money is still held%s", o.ID, o.Reason, held, because(events, "payment.voided"))
		case o.State == cancelled && (!there || p.State == "waiting"):
			report("order %s cancelled (%s), but payment-svc would still authorise it: it keeps no mark of the cancellation", o.ID, o.Reason)
		case held != 0:
			report("order %s %s, but %d of its money is still held", o.ID, o.State, held)
		}
	})
	young := d.young()
	for _, key := range slices.Sorted(maps.Keys(d.Payments)) {
		p := d.Payments[key]
		if _, known := d.Orders[key]; !known && !young[key] && p.Moved["authorize"] != 0 {
			report("payment of %s: %d was authorised for an order that does not exist", key, p.Moved["authorize"])
		}
	}
}

func findWrongReservations(d *Data, report reporter) {
	d.decided(func(o Order, events map[string]bool) {
		r, there := d.Reservations[o.ID]
		open := map[string]int64{}
		for sku, n := range r.Moved["reserve"] {
			if left := n - r.Moved["ship"][sku] - r.Moved["release"][sku]; left != 0 {
				open[sku] = left
			}
		}
		switch {
		case o.State == confirmed && (!there || r.State != "shipped"):
			report("order %s confirmed, but its items were never shipped%s", o.ID, because(events, "inventory.shipped"))
		case o.State == confirmed && !maps.Equal(r.Moved["ship"], o.Items):
			report("order %s confirmed for %s, but %s were shipped", o.ID, list(o.Items), list(r.Moved["ship"]))
		case o.State == cancelled && len(r.Moved["ship"]) > 0:
			report("order %s cancelled (%s), but %s were shipped", o.ID, o.Reason, list(r.Moved["ship"]))
		case o.State == cancelled && (len(open) > 0 || r.State == "reserved"):
			report("order %s cancelled (%s), but its stock (%s) was never released%s", o.ID, o.Reason, list(open), because(events, "inventory.released"))
		case o.State == cancelled && !there:
			report("order %s cancelled (%s), but inventory-svc would still reserve for it: it keeps no mark of the cancellation", o.ID, o.Reason)
		}
	})
	young := d.young()
	for _, key := range slices.Sorted(maps.Keys(d.Reservations)) {
		if _, known := d.Orders[key]; !known && !young[key] && len(d.Reservations[key].Moved) > 0 {
			report("reservation of %s: stock was moved for an order that does not exist", key)
		}
	}
}

func findWrongVersions(d *Data, report reporter) {
	last := map[Stream]int64{}
	for _, s := range d.Services {
		for _, r := range s.Rows {
			last[r.Stream] = max(last[r.Stream], r.Sequence)
		}
	}
	compare := func(name, key string, version int64) {
		if got, kept := last[Stream{"/" + name, key}]; got != version && (kept || !d.dropped(name)) {
			report("%s: the row of %s says %d events were published, its outbox has %d", name, key, version, got)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(d.Orders)) {
		compare("order-svc", key, d.Orders[key].Version)
	}
	for _, key := range slices.Sorted(maps.Keys(d.Payments)) {
		compare("payment-svc", key, d.Payments[key].Version)
	}
	for _, key := range slices.Sorted(maps.Keys(d.Reservations)) {
		compare("inventory-svc", key, d.Reservations[key].Version)
	}
}

// dropped says whether old rows of the service's outbox are gone.
func (d *Data) dropped(name string) bool {
	for _, s := range d.Services {
		if s.Name == name {
			return !s.KeptFrom.IsZero()
		}
	}
	return true
}

func findUnnoted(d *Data, report reporter) {
	d.decided(func(o Order, _ map[string]bool) {
		p, r := d.Payments[o.ID], d.Reservations[o.ID]
		for _, effect := range []struct {
			name string
			done bool
		}{
			{"captured", p.State == "captured"},
			{"voided", p.State == "voided"},
			{"shipped", r.State == "shipped"},
			{"released", r.State == "released"},
		} {
			if effect.done != o.Noted[effect.name] {
				report("order %s %s: %s is %t in truth and %t in its row", o.ID, o.State, effect.name, effect.done, o.Noted[effect.name])
			}
		}
	})
}

func findMails(d *Data, report reporter) {
	d.decided(func(o Order, _ map[string]bool) {
		due := []string{cancelled}
		if o.State == confirmed {
			due = []string{confirmed, "receipt"}
		}
		for _, kind := range due {
			m, there := d.Mails[o.ID][kind]
			switch {
			case !there:
				report("order %s %s, but no %q mail was written", o.ID, o.State, kind)
			case m.State == "held":
				report("order %s %s, but its %q mail does not know where to go", o.ID, o.State, kind)
			}
		}
		for _, kind := range slices.Sorted(maps.Keys(d.Mails[o.ID])) {
			if !slices.Contains(due, kind) {
				report("order %s %s, but a %q mail was written", o.ID, o.State, kind)
			}
		}
	})
}

// list is "tea-green×2 honey×1".
func list(items map[string]int64) string {
	var b strings.Builder
	for _, sku := range slices.Sorted(maps.Keys(items)) {
		fmt.Fprintf(&b, " %s×%d", sku, items[sku])
	}
	if b.Len() == 0 {
		return "nothing"
	}
	return b.String()[1:]
}
