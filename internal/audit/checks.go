package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Check is one promise, and how it is looked at.
type Check struct {
	Name    string
	Promise string
	find    func(d *Data, report func(format string, args ...any))
}

// Checks are all checks in the order in which their differences explain one
// another: what is missing in the log is missing everywhere after.
func Checks() []Check {
	return []Check{
		{"log-records", "every record of the log is an event of this system, in the partition of its key", findForeign},
		{"outbox-in-log", "every committed outbox row is in the log exactly once, with the same bytes", findUnpublished},
		{"log-in-outbox", "every record of the log has its outbox row", findUnknown},
		{"log-order", "the events of a key lie in the log in the order of their sequence, from 1 on without a gap", findDisorder},
		{"outbox-dense", "sequences are dense per source and key, from 1 on", findSparse},
		{"inbox", "every service has applied each key up to its last event in the topics it reads", findUnapplied},
		{"offsets", "every service has read each partition to its end", findUnread},
		{"parked", "nothing is parked", findParked},
		{"ended", "every order is confirmed or cancelled, or younger than its deadline", findEndless},
		{"payments", "confirmed orders are captured once with their amount, cancelled ones hold no money", findWrongPayments},
		{"charges", "nothing is left to be asked of the card provider for an order that has ended, and its answer is what the order came to", findWrongCharges},
		{"provider", "the card provider's own ledger has one capture for each confirmed order paid by card, and no money of any other", findWrongLedger},
		{"reservations", "confirmed orders are shipped once with their items, cancelled ones hold no stock", findWrongReservations},
		{"versions", "each service has published as many events of an order as its row says", findWrongVersions},
		{"noted", "the order knows what became of its money and stock", findUnnoted},
		{"money", "entries sum to zero, per transfer and in all, and balances are the sums of their entries", findMoney},
		{"stock", "available, reserved and sold are what the ledger says, and reserved is what open reservations hold", findStock},
		{"mails", "each order's customer has one mail of each kind that is due, sent or waiting to be", findMails},
	}
}

// Find runs the check and returns its differences.
func (c Check) Find(d *Data) []Difference {
	var found []Difference
	c.find(d, func(format string, args ...any) {
		found = append(found, Difference{Check: c.Name, Text: fmt.Sprintf(format, args...)})
	})
	return found
}

// All runs every check and returns the differences in their order.
func All(d *Data) []Difference {
	var found []Difference
	for _, c := range Checks() {
		found = append(found, c.Find(d)...)
	}
	return found
}

// id is an event's place, by which row and record find each other.
type id struct {
	stream   Stream
	sequence int64
}

func (i id) String() string {
	return fmt.Sprintf("%s %s #%d", i.stream.Source, i.stream.Key, i.sequence)
}

func (r Row) id() id    { return id{r.Stream, r.Sequence} }
func (r Record) id() id { return id{r.Stream, r.Sequence} }

func (r Record) at() string { return fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset) }

// byPlace sorts streams, so that the same differences come in the same order.
func byPlace[V any](m map[Stream]V) []Stream {
	return slices.SortedFunc(maps.Keys(m), func(a, b Stream) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Key, b.Key))
	})
}

// expired tells whether the log may have dropped a partition's record of that
// moment for its age: it begins later, with younger ones. The times of a topic's
// events are by one clock, and those of transactions at once in any order.
func (d *Data) expired(p Part, at time.Time) bool {
	begins, there := d.Begins[p]
	return d.Bounds[p].First > 0 && (!there || !at.After(begins.Add(d.Grace)))
}

// published groups the log by event.
func (d *Data) published() map[id][]Record {
	log := make(map[id][]Record, len(d.Log))
	for _, r := range d.Log {
		if r.Fault == "" {
			log[r.id()] = append(log[r.id()], r)
		}
	}
	return log
}
