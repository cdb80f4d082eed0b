// Package audit owns the question whether the system has kept its promises: it
// reads every service's database and the whole log and names each difference.
// It only reads. The checks are functions over loaded [Data].
package audit

import (
	"hash/crc32"
	"time"
)

// Sum tells whether two records have the same bytes: the first half of the
// SHA-256 of headers and value.
type Sum [16]byte

// Stream is the events of one key from one publisher.
type Stream struct{ Source, Key string }

// Row is one committed outbox row.
type Row struct {
	ID       int64
	Topic    string
	Stream   Stream
	Sequence int64
	EventID  string
	Kind     string
	Sum      Sum
	Time     time.Time
}

// Record is one record of the log.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Stream    Stream
	Sequence  int64
	EventID   string
	Kind      string
	Sum       Sum
	Time      time.Time
	Fault     string // why it is no event of this system; empty: it is one
}

// Bounds is what the log of a partition holds, the offsets from First to before
// End.
type Bounds struct{ First, End int64 }

// Part names a partition of a topic.
type Part struct {
	Topic     string
	Partition int32
}

// Service is what one service's database says about events.
type Service struct {
	Name   string
	Source string
	Reads  []string // topics
	Rows   []Row    // the outbox, by id
	// KeptFrom is the moment from which on the outbox holds every row: older
	// partitions of the table are dropped.
	KeptFrom time.Time
	Inbox    map[Stream]int64 // last applied sequence
	Offsets  map[Part]int64   // next offset to read
	Parked   []Parked
}

// Parked is one record that waits.
type Parked struct {
	Stream   Stream
	Sequence int64
	Kind     string
	Reason   string
}

// Order is an order as its service sees it.
type Order struct {
	ID, CustomerID string
	State, Reason  string
	Total          int64 // minor units
	Currency       string
	Items          map[string]int64 // sku → quantity
	Version        int64            // events published
	Due            time.Time        // deadline; zero once decided
	Placed         time.Time
	Decided        time.Time
	Noted          map[string]bool // captured, voided, shipped, released
}

// Payment is an order's payment and what was moved for it.
type Payment struct {
	OrderID, State string
	Method         string
	Version        int64
	Amount         int64
	Moved          map[string]int64 // authorize, capture, void → amount
}

// Charge is what payment-svc wants of the card provider for an order, and knows.
type Charge struct{ OrderID, Wanted, Known string }

// Reservation is an order's stock and what was moved for it.
type Reservation struct {
	OrderID, State string
	Version        int64
	Moved          map[string]map[string]int64 // reserve, ship, release → sku → quantity
}

// Account is a balance beside the sum of its entries.
type Account struct {
	ID, Kind, Currency string
	Balance, Entries   int64
}

// Transfer is the entries of one transfer.
type Transfer struct {
	ID    int64
	Kind  string
	Order string
	Sum   int64
	Legs  int
}

// Stock is one SKU's row beside what its ledger says.
type Stock struct {
	SKU                             string
	Available, Reserved, Sold       int64
	Received, LedgerReserved, Ships int64 // received; reserved and neither shipped nor released; shipped
	Open                            int64 // what reservations that are open hold
}

// Mail is one mail of an order.
type Mail struct{ OrderID, Kind, State string }

// share is the part of all keys that one look takes in: those whose hash leaves n
// when it is divided by of. The zero value is all of them.
type share struct{ n, of uint32 }

func (s share) has(key string) bool {
	return s.of < 2 || crc32.ChecksumIEEE([]byte(key))%s.of == s.n
}

// first tells whether what belongs to no key is looked at with this one.
func (s share) first() bool { return s.n == 0 }

// Data is everything the checks look at, for a share of the keys.
type Data struct {
	share share

	// Now is the moment of the first read, by the database's clock. Grace is how
	// long facts may be on their way: younger ones are not judged.
	Now   time.Time
	Grace time.Duration
	End   time.Time // of the last read; a fact from later was written under a clock that has gone back since. Zero: unknown

	Partitions int      // of every topic
	Log        []Record // by topic, partition, offset
	Bounds     map[Part]Bounds
	Begins     map[Part]time.Time // of the first event that a partition holds, whosever key it has
	Services   []Service
	Injected   Injection // what the tool wrote into the log on purpose

	Orders       map[string]Order
	Payments     map[string]Payment
	Charges      map[string]Charge
	Ledger       []Charged // of the card provider, by key
	HasLedger    bool      // the provider's ledger was looked at
	Reservations map[string]Reservation
	Accounts     []Account
	Transfers    []Transfer
	Stock        []Stock
	Mails        map[string]map[string]Mail // order → kind → mail

	known map[string]string
}

// same is the text itself, kept once however often it is read: an order's id comes
// in each table of each service.
func (d *Data) same(text *string) {
	if have, ok := d.known[*text]; ok {
		*text = have
		return
	}
	if d.known == nil {
		d.known = map[string]string{}
	}
	d.known[*text] = *text
}

// Difference is one broken promise.
type Difference struct {
	Check string `json:"check"` // which one
	Text  string `json:"text"`  // what is wrong, with names and numbers
}

// settled says whether a fact of that moment must have had all its effects. How
// old one of the future is, is not known; it is not of the last moments.
func (d *Data) settled(at time.Time) bool {
	return d.past(at) || !d.End.IsZero() && at.After(d.End)
}

func (d *Data) past(at time.Time) bool { return !at.After(d.Now.Add(-d.Grace)) }

// lastActivity is the time of the newest event of each key, from any publisher.
func (d *Data) lastActivity() map[string]time.Time {
	last := map[string]time.Time{}
	for _, s := range d.Services {
		for _, r := range s.Rows {
			if r.Time.After(last[r.Stream.Key]) {
				last[r.Stream.Key] = r.Time
			}
		}
	}
	return last
}
