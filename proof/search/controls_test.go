package search_test

import (
	"strings"
	"testing"

	"pavane/proof/search"
)

const (
	placed     = "order.placed.v1"
	cancelled  = "order.cancelled.v1"
	confirmed  = "order.confirmed.v1"
	reserved   = "inventory.reserved.v1"
	rejected   = "inventory.rejected.v1"
	shipped    = "inventory.shipped.v1"
	released   = "inventory.released.v1"
	authorized = "payment.authorized.v1"
	captured   = "payment.captured.v1"
	voided     = "payment.voided.v1"
)

// TestControls_SagaMadeWorse_IsFound breaks one rule of the saga at a time.
func TestControls_SagaMadeWorse_IsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		service, state string
		row            search.Row
		want           string
	}{
		"no tombstone: the cancelled order is forgotten": {
			"payment-svc", "waiting placed", search.Row{On: cancelled}, "cancelled with 1 of 1 reservations released, 0 of 1 authorisations voided",
		},
		"a fact that comes early is forgotten": {
			"payment-svc", "waiting", search.Row{On: reserved}, "it is over, and the order is placed",
		},
		"capture without confirm": {
			"payment-svc", "authorized", search.Row{On: cancelled, To: "captured", Books: "capture", Emits: captured}, "capture before order.confirmed.v1",
		},
		"authorise without a reservation": {
			"payment-svc", "waiting", search.Row{On: placed, To: "authorized", Books: "authorize", Emits: authorized}, "authorize before inventory.reserved.v1",
		},
		"no void": {
			"payment-svc", "authorized", search.Row{On: cancelled}, "0 of 1 authorisations voided",
		},
		"no capture": {
			"payment-svc", "authorized", search.Row{On: confirmed}, "confirmed with 0 captures",
		},
		"a wallet that is overdrawn": {
			"payment-svc", "waiting placed", search.Row{On: reserved, If: search.Refused, To: "authorized", Books: "authorize", Emits: authorized}, "the wallet of c holds -1",
		},
		"stock that is oversold": {
			"inventory-svc", "new", search.Row{On: placed, If: search.Refused, To: "reserved", Books: "reserve", Emits: reserved}, "stock of x: -1 available",
		},
		"release twice, on the refusal and on the cancellation": {
			"inventory-svc", "released", search.Row{On: cancelled, To: "released", Books: "release", Emits: released}, "the ledger refuses a second release",
		},
		"ship what was released": {
			"inventory-svc", "released", search.Row{On: cancelled, To: "shipped", Books: "ship", Emits: shipped}, "ship or release of what is not there",
		},
		"no release": {
			"inventory-svc", "reserved", search.Row{On: cancelled}, "cancelled with 0 of 1 reservations released",
		},
		"a rejection that nobody tells": {
			"inventory-svc", "new", search.Row{On: placed, If: search.Refused, To: "rejected"}, "it is over, and the order is placed",
		},
		"the order service does not mind a rejection": {
			"order-svc", "placed", search.Row{On: rejected}, "it is over, and the order is placed",
		},
		"confirm after cancel": {
			"order-svc", "cancelled customer", search.Row{On: authorized, To: "confirmed", Emits: confirmed}, "confirmed and cancelled",
		},
		"cancel after confirm": {
			"order-svc", "confirmed", search.Row{On: search.Cancel, To: "cancelled customer", Emits: cancelled}, "confirmed and cancelled",
		},
		"an effect that is not noted": {
			"order-svc", "cancelled customer released", search.Row{On: voided}, `noted as "cancelled customer released" after 1 void`,
		},
		"a change that can be made again and again": {
			"order-svc", "placed", search.Row{On: search.Place, To: "none"}, "may go on for ever",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			machines := load(t)
			worse(t, machines, c.service, c.state, c.row)
			v := violation(t, machines, short(c.want))
			if !strings.Contains(v.What, c.want) {
				t.Fatalf("found %v\nwant %q", v, c.want)
			}
			t.Log(v)
		})
	}
}

// short is a scenario in which the stock is short, or the wallet: what is wanted
// to be found needs the one or the other.
func short(want string) search.Config {
	c := scenario(1, 1, 1, items("x", "y"), items("x", "y"))
	if !strings.Contains(want, "stock") && !strings.Contains(want, "placed") {
		c.Stock["x"], c.Stock["y"] = 2, 2
	}
	return c
}

// TestControls_FaultInSomeState_IsFound makes a service park what it must ignore,
// and goes the shortest way there by hand.
func TestControls_FaultInSomeState_IsFound(t *testing.T) {
	t.Parallel()
	machines := load(t)
	park(t, machines, "order-svc", "cancelled deadline", authorized)
	c := scenario(1, 2, 1, items("x", "y"), items("y"))
	v := violation(t, machines, c)
	want := []string{
		"order-svc: place order B",
		"inventory-svc gets order.placed #1 of order B",
		"payment-svc gets order.placed #1 of order B",
		"payment-svc gets inventory.reserved #1 of order B",
		"order-svc: deadline order B",
		"order-svc gets payment.authorized #1 of order B",
	}
	m, err := search.New(machines, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Follow(want); err == nil || !strings.Contains(err.Error(), v.What[len("order A"):]) {
		t.Errorf("the schedule leads to %v, the search found %v", err, v)
	}
	if err := m.Follow(want[:5]); err != nil {
		t.Errorf("before the last step: %v", err)
	}
	if len(v.Schedule) != len(want) || !strings.Contains(v.What, `order-svc parks it in state "cancelled deadline"`) {
		t.Errorf("found %v\nwant %d steps", v, len(want))
	}
}

// TestControls_NoInbox_IsFound has a function that relies on the inbox: it is
// sound with it, and found without.
func TestControls_NoInbox_IsFound(t *testing.T) {
	t.Parallel()
	machines := load(t)
	worse(t, machines, "payment-svc", "authorized", search.Row{On: reserved, To: "authorized", Books: "authorize", Emits: authorized})
	for _, fault := range []string{"duplicate", "crash"} {
		c := scenario(2, 2, 2, items("x", "y"), items("y"))
		c.Duplicates, c.Crashes = strings.Count(fault, "duplicate"), strings.Count(fault, "crash")
		run(t, machines, c)
		c.NoInbox = true
		if v := violation(t, machines, c); !strings.Contains(v.What, "the ledger refuses a second authorize") {
			t.Errorf("found %v", v)
		}
	}
}

func TestNew_MachinesThatDoNotFit_AreRefused(t *testing.T) {
	t.Parallel()
	sound := scenario(1, 1, 1, items("x"), items("y"))
	for name, row := range map[string]search.Row{
		"an event that nobody reads": {On: search.Cancel, To: "cancelled customer", Emits: "order.lost.v1"},
		"a state that is not there":  {On: search.Cancel, To: "lost"},
		"an entry that is not there": {On: search.Cancel, To: "placed", Books: "lose"},
	} {
		machines := load(t)
		worse(t, machines, "order-svc", "placed", row)
		if _, err := search.New(machines, sound); err == nil || !strings.Contains(err.Error(), "lo") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for name, c := range map[string]search.Config{
		"no order":                   {},
		"a SKU that is not there":    {Orders: []search.Order{{Customer: "c", Items: items("x")}}, Wallets: map[string]int{"c": 1}},
		"a wallet that is not there": {Orders: []search.Order{{Customer: "c"}}},
	} {
		if _, err := search.New(load(t), c); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
