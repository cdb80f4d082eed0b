package inventory

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"pavane/shared/contract"
	"pavane/shared/fault"
)

func TestNext_EveryStateAndFact_HasItsStep(t *testing.T) {
	t.Parallel()
	const impossible Step = -1
	want := map[State][4]Step{ // by Placed, Confirmed, Declined, Cancelled
		StateNew:      {StepReserve, impossible, StepRefuse, StepRefuse},
		StateReserved: {StepNone, StepShip, StepRelease, StepRelease},
		StateRejected: {StepNone, impossible, StepNone, StepNone},
		StateShipped:  {StepNone, StepNone, impossible, impossible},
		StateReleased: {StepNone, impossible, StepNone, StepNone},
		StateRefused:  {StepNone, impossible, StepNone, StepNone},
	}
	for state, steps := range want {
		for f := Placed; f <= Cancelled; f++ {
			r := Reservation{OrderID: "o-1", State: state}
			step, err := r.Next(f)
			switch {
			case steps[f] == impossible && fault.ClassOf(err) != fault.ClassPermanent:
				t.Errorf("%s in state %s: step %d, error %v; want a permanent fault", f, state, step, err)
			case steps[f] != impossible && (err != nil || step != steps[f]):
				t.Errorf("%s in state %s: step %d, error %v; want step %d", f, state, step, err, steps[f])
			}
		}
	}
}

func TestDone_EachStep_TellsOneEventUnderTheNextVersion(t *testing.T) {
	t.Parallel()
	cases := []struct {
		step     Step
		shortage string
		state    State
		kind     string // empty: no event
	}{
		{StepReserve, "", StateReserved, "inventory.reserved.v1"},
		{StepReserve, "x: 2 wanted, 1 left", StateRejected, "inventory.rejected.v1"},
		{StepShip, "", StateShipped, "inventory.shipped.v1"},
		{StepRelease, "", StateReleased, "inventory.released.v1"},
		{StepRefuse, "", StateRefused, ""},
	}
	for _, c := range cases {
		r := Reservation{OrderID: "o-1", Version: 4}
		events := r.done(c.step, c.shortage)
		if r.State != c.state {
			t.Errorf("step %d: state %s; want %s", c.step, r.State, c.state)
		}
		if c.kind == "" {
			if len(events) != 0 || r.Version != 4 {
				t.Errorf("step %d told %v, version %d; want nothing", c.step, events, r.Version)
			}
			continue
		}
		if len(events) != 1 || events[0].Event.Kind() != c.kind || events[0].Event.Key() != "o-1" || events[0].Sequence != 5 || r.Version != 5 {
			t.Errorf("step %d told %v, version %d; want one %s with the sequence 5", c.step, events, r.Version, c.kind)
		}
	}
}

func TestShortage_EveryShortSKU_IsNamedForPeople(t *testing.T) {
	t.Parallel()
	want := []Item{{"honey", 2}, {"kettle", 6}, {"sofa", 1}}
	got := shortage(want, map[string]int64{"honey": 2, "kettle": 5})
	if got != "kettle: 6 wanted, 5 left; sofa is not kept in stock" {
		t.Errorf("got %q", got)
	}
	if got := shortage(want, map[string]int64{"honey": 2, "kettle": 6, "sofa": 1}); got != "" {
		t.Errorf("nothing is short, got %q", got)
	}
}

func TestItemsOf_LinesOfOneSKU_AreAddedUpAndSorted(t *testing.T) {
	t.Parallel()
	got, err := itemsOf(contract.OrderPlaced{Items: []contract.Item{{SKU: "tin", Quantity: 1}, {SKU: "honey", Quantity: 2}, {SKU: "tin", Quantity: 3}}})
	if err != nil || !reflect.DeepEqual(got, []Item{{"honey", 2}, {"tin", 4}}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestItemsOf_WhatNoStockCanBeAskedFor_IsAPermanentFault(t *testing.T) {
	t.Parallel()
	for name, items := range map[string][]contract.Item{
		"no items":      nil,
		"no SKU":        {{SKU: "", Quantity: 1}},
		"zero":          {{SKU: "tin", Quantity: 0}},
		"negative":      {{SKU: "tin", Quantity: -1}},
		"sum overflows": {{SKU: "tin", Quantity: math.MaxInt64}, {SKU: "tin", Quantity: 1}},
	} {
		_, err := itemsOf(contract.OrderPlaced{OrderID: "o-1", Items: items})
		if fault.ClassOf(err) != fault.ClassPermanent || !strings.Contains(err.Error(), "o-1") {
			t.Errorf("%s: got %v; want a permanent fault that names the order", name, err)
		}
	}
}
