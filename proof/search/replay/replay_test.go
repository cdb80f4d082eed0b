package replay

import (
	"os"
	"slices"
	"strings"
	"testing"

	"pavane/proof/search"
)

// TestWalks_MeetEveryStateThatCanBe keeps the walks from becoming walks in the
// park: what they leave out is a list, with reasons.
func TestWalks_MeetEveryStateThatCanBe(t *testing.T) {
	t.Parallel()
	machines, err := search.Load(os.DirFS("../../.."))
	if err != nil {
		t.Fatal(err)
	}
	require(t, unmet(t, machines, short),
		// What was rejected or declined has nothing to be voided, or released.
		"order-svc: cancelled out_of_stock released",
		"order-svc: cancelled out_of_stock voided",
		"order-svc: cancelled payment_declined voided",
		"order-svc: cancelled out_of_stock voided released",
		"order-svc: cancelled payment_declined voided released",
		// Inventory and payment hear order.placed before order.cancelled.
		"inventory-svc: refused",
		"payment-svc: refused",
		"payment-svc: refused reserved",
	)
}

func TestCardWalks_MeetEveryStateThatCanBe(t *testing.T) {
	t.Parallel()
	machines, err := search.LoadCard(os.DirFS("../../.."))
	if err != nil {
		t.Fatal(err)
	}
	// They are replayed on payment-svc alone, which hears order.placed before
	// order.cancelled.
	unmet := unmet(t, machines, covered)
	unmet = slices.DeleteFunc(unmet, func(name string) bool { return !strings.HasPrefix(name, "payment-svc: ") })
	require(t, unmet, "payment-svc: refused", "payment-svc: refused reserved")
}

// unmet are the states that no walk meets. Each act must come often enough.
func unmet(t *testing.T, machines []search.Machine, wallets int) (unmet []string) {
	t.Helper()
	met, acts := map[string]bool{}, map[search.Act]int{}
	for seed := uint64(1); seed <= walks; seed++ {
		_, steps, err := walk(machines, seed, wallets)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range steps {
			met[s.Service+": "+s.State] = true
			acts[s.Act]++
		}
	}
	for _, m := range machines {
		for _, s := range m.States {
			if name := m.Service + ": " + s.Name; !met[name] {
				unmet = append(unmet, name)
			}
		}
	}
	for act := search.Ask; act <= search.Resend; act++ {
		if acts[act] < 8 {
			t.Errorf("%d steps of kind %d are too few", acts[act], act)
		}
	}
	return unmet
}

func require(t *testing.T, unmet []string, want ...string) {
	t.Helper()
	slices.Sort(unmet)
	slices.Sort(want)
	if !slices.Equal(unmet, want) {
		t.Errorf("not met: %q\nwant %q", unmet, want)
	}
}
