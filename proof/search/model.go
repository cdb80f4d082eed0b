package search

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Config says what is searched.
type Config struct {
	Orders  []Order
	Stock   map[string]int // available of each SKU at the start
	Wallets map[string]int // what each customer has at the start

	Duplicates int // how often, in all, a record that was delivered is delivered once more
	Crashes    int // how many processes die, in all

	// NoInbox hands every copy of a record to the functions, which must cope
	// with it by themselves.
	NoInbox bool
}

// Order is one order of a search. Not every order need be placed.
type Order struct {
	Customer string
	Price    int
	Items    []Item // sorted by SKU, each SKU once
}

// Item is an amount of one SKU.
type Item struct {
	SKU      string
	Quantity int
}

const (
	maxServices = 3
	maxOrders   = 5
	maxLog      = 8 // records of one service about one order, copies included
)

// Model is the saga of some machines under a Config. It grows while it is
// searched, and is for one goroutine.
type Model struct {
	cfg      Config
	machines []machine
	facts    []string                       // kinds of events and then what comes from outside; the index is their number, 0 is none
	emitted  int                            // below: none, or a kind that somebody emits
	kinds    int                            // below: none, or a kind
	reads    [maxServices][maxServices]bool // reader, source

	skus, customers  []string
	received, paidIn []int   // by SKU; by customer
	wanted           [][]int // by order and SKU
	purse            []int   // the customer of each order

	parts []part          // all states of one order that were met
	ids   map[local]int32 // where they stand in parts
}

// machine is a Machine by numbers.
type machine struct {
	name   string
	states []string
	on     [][]reaction // by state and fact
}

// reaction is what a fact does in one state.
type reaction struct {
	known   bool // there is one at all
	fault   bool
	asks    bool
	granted result // also when nothing is asked
	refused result
}

type result struct {
	to    uint8
	books booking
	emits uint8
}

// New makes the model of a saga. Machines that do not fit together are an error:
// an event that nobody reads, a state or an entry that does not exist.
func New(machines []Machine, cfg Config) (*Model, error) {
	m := &Model{cfg: cfg, ids: map[local]int32{}}
	if len(machines) > maxServices || len(cfg.Orders) == 0 || len(cfg.Orders) > maxOrders {
		return nil, fmt.Errorf("search: %d machines and %d orders; at most %d and from 1 to %d", len(machines), len(cfg.Orders), maxServices, maxOrders)
	}
	if err := m.count(); err != nil {
		return nil, err
	}
	emitters := m.number(machines)
	heard := map[string]bool{}
	for i, t := range machines {
		c, err := m.compile(t)
		if err != nil {
			return nil, err
		}
		m.machines = append(m.machines, c)
		for fact, r := range c.on[0] {
			heard[m.facts[fact]] = heard[m.facts[fact]] || r.known
			if source, ok := emitters[m.facts[fact]]; ok && r.known {
				m.reads[i][source] = true
			}
		}
	}
	for _, kind := range m.facts[1:m.emitted] {
		if !heard[kind] {
			return nil, fmt.Errorf("search: nobody reads %s", kind)
		}
	}
	return m, nil
}

// number gives every fact its number and returns who emits the kinds. A kind that
// nobody emits is heard of never.
func (m *Model) number(machines []Machine) (emitters map[string]int) {
	emitters, m.facts = map[string]int{}, []string{""}
	add := func(fact string) {
		if !slices.Contains(m.facts, fact) {
			m.facts = append(m.facts, fact)
		}
	}
	for i, t := range machines {
		for _, s := range t.States {
			for _, r := range s.Rows {
				if r.Emits != "" {
					emitters[r.Emits] = i
					add(r.Emits)
				}
			}
		}
	}
	m.emitted = len(m.facts)
	outside := []string{Place, Cancel, Deadline}
	for _, t := range machines {
		for _, fact := range t.States[0].facts() {
			if strings.HasPrefix(fact, provided) {
				outside = append(outside, fact)
			} else if !slices.Contains(outside, fact) {
				add(fact)
			}
		}
	}
	m.kinds = len(m.facts)
	m.facts = append(m.facts, outside...)
	return emitters
}

// facts are all that a state knows what to do about.
func (s State) facts() []string {
	facts := slices.Concat(s.Ignores, s.Faults)
	for _, r := range s.Rows {
		facts = append(facts, r.On)
	}
	slices.Sort(facts)
	return slices.Compact(facts)
}

// count writes the amounts of the Config by numbers.
func (m *Model) count() error {
	m.skus, m.customers = slices.Sorted(maps.Keys(m.cfg.Stock)), slices.Sorted(maps.Keys(m.cfg.Wallets))
	for _, sku := range m.skus {
		m.received = append(m.received, m.cfg.Stock[sku])
	}
	for _, c := range m.customers {
		m.paidIn = append(m.paidIn, m.cfg.Wallets[c])
	}
	for _, o := range m.cfg.Orders {
		wanted, purse := make([]int, len(m.skus)), slices.Index(m.customers, o.Customer)
		for _, i := range o.Items {
			sku := slices.Index(m.skus, i.SKU)
			if sku < 0 {
				return fmt.Errorf("search: there is no stock of %q", i.SKU)
			}
			wanted[sku] = i.Quantity
		}
		if purse < 0 {
			return fmt.Errorf("search: customer %q has no wallet", o.Customer)
		}
		m.wanted, m.purse = append(m.wanted, wanted), append(m.purse, purse)
	}
	return nil
}

func (m *Model) compile(t Machine) (machine, error) {
	c := machine{name: t.Service}
	for _, s := range t.States {
		c.states = append(c.states, s.Name)
	}
	for _, s := range t.States {
		on := make([]reaction, len(m.facts))
		for _, r := range s.Rows {
			to, books, emits := slices.Index(c.states, r.To), slices.Index(bookings(), r.Books), slices.Index(m.facts, r.Emits)
			if to < 0 || books < 0 {
				return c, fmt.Errorf("search: %s, %s on %s: no state %q, or no entry %q", t.Service, s.Name, r.On, r.To, r.Books)
			}
			known := &on[slices.Index(m.facts, r.On)]
			known.known = true
			if res := (result{uint8(to), booking(books), uint8(emits)}); r.If == Refused {
				known.refused, known.asks = res, true
			} else {
				known.granted = res
			}
		}
		self := result{to: uint8(len(c.on))}
		for _, fact := range s.Ignores {
			on[slices.Index(m.facts, fact)] = reaction{known: true, granted: self}
		}
		for _, fact := range s.Faults {
			on[slices.Index(m.facts, fact)] = reaction{known: true, fault: true}
		}
		c.on = append(c.on, on)
	}
	return c, nil
}

// booking is an entry in the ledger of stock or of money.
type booking uint8

const (
	none booking = iota
	reserve
	ship
	release
	authorize
	capture
	void
	bookingKinds
)

func bookings() []string {
	return []string{"", "reserve", "ship", "release", "authorize", "capture", "void"}
}
