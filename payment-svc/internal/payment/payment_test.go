package payment

import (
	"testing"

	"pavane/shared/contract"
	"pavane/shared/fault"
)

func TestLearn_EveryStateAndFact_HasItsStep(t *testing.T) {
	t.Parallel()
	const impossible Step = -1
	cases := []struct {
		state            State
		placed, reserved bool    // known before
		want             [4]Step // by Placed, Reserved, Confirmed, Cancelled
	}{
		{StateWaiting, false, false, [4]Step{StepNone, StepNone, impossible, StepRefuse}},
		{StateWaiting, true, false, [4]Step{StepNone, StepAuthorize, impossible, StepRefuse}},
		{StateWaiting, false, true, [4]Step{StepAuthorize, StepNone, impossible, StepRefuse}},
		{StateAuthorized, true, true, [4]Step{StepNone, StepNone, StepCapture, StepVoid}},
		{StateDeclined, true, true, [4]Step{StepNone, StepNone, impossible, StepNone}},
		{StateCaptured, true, true, [4]Step{StepNone, StepNone, StepNone, impossible}},
		{StateVoided, true, true, [4]Step{StepNone, StepNone, impossible, StepNone}},
		{StateRefused, false, false, [4]Step{StepNone, StepNone, impossible, StepNone}},
		{StateRefused, true, false, [4]Step{StepNone, StepNone, impossible, StepNone}},
		{StateRefused, false, true, [4]Step{StepNone, StepNone, impossible, StepNone}},
		{StateRefused, true, true, [4]Step{StepNone, StepNone, impossible, StepNone}},
	}
	for _, c := range cases {
		for f := Placed; f <= Cancelled; f++ {
			p := Payment{OrderID: "o-1", State: c.state, HasPlaced: c.placed, HasReserved: c.reserved}
			step, err := p.learn(f)
			switch {
			case c.want[f] == impossible && fault.ClassOf(err) != fault.ClassPermanent:
				t.Errorf("%s in %+v: step %d, error %v; want a permanent fault", f, c, step, err)
			case c.want[f] != impossible && (err != nil || step != c.want[f]):
				t.Errorf("%s in %+v: step %d, error %v", f, c, step, err)
			}
			if f == Placed && !p.HasPlaced || f == Reserved && !p.HasReserved {
				t.Errorf("%s in %+v was not noted", f, c)
			}
		}
	}
}

func TestDone_EachStep_TellsOneEventUnderTheNextVersion(t *testing.T) {
	t.Parallel()
	cases := []struct {
		step    Step
		refusal string
		state   State
		kind    string // empty: no event
	}{
		{StepAuthorize, "", StateAuthorized, "payment.authorized.v1"},
		{StepAuthorize, "short", StateDeclined, "payment.declined.v1"},
		{StepCapture, "", StateCaptured, "payment.captured.v1"},
		{StepVoid, "", StateVoided, "payment.voided.v1"},
		{StepRefuse, "", StateRefused, ""},
		{StepNone, "", StateWaiting, ""},
	}
	for _, c := range cases {
		p := Payment{OrderID: "o-1", State: StateWaiting, Version: 4}
		events := p.done(c.step, c.refusal)
		if p.State != c.state {
			t.Errorf("step %d: state %s; want %s", c.step, p.State, c.state)
		}
		if c.kind == "" {
			if len(events) != 0 || p.Version != 4 {
				t.Errorf("step %d told %v, version %d; want nothing", c.step, events, p.Version)
			}
			continue
		}
		if len(events) != 1 || events[0].Event.Kind() != c.kind || events[0].Event.Key() != "o-1" || events[0].Sequence != 5 || p.Version != 5 {
			t.Errorf("step %d told %v, version %d; want one %s with the sequence 5", c.step, events, p.Version, c.kind)
		}
	}
}

func TestDescribe_WhatNoMethodCanBeAskedFor_IsAPermanentFault(t *testing.T) {
	t.Parallel()
	good := contract.OrderPlaced{OrderID: "o-1", CustomerID: "c", Total: contract.Money{Amount: 0, Currency: "EUR"}}
	if err := new(Payment).describe(good); err != nil {
		t.Errorf("a free order: %v", err)
	}
	for name, spoil := range map[string]func(*contract.OrderPlaced){
		"no customer":     func(e *contract.OrderPlaced) { e.CustomerID = "" },
		"negative amount": func(e *contract.OrderPlaced) { e.Total.Amount = -1 },
		"no currency":     func(e *contract.OrderPlaced) { e.Total.Currency = "" },
		"lower case":      func(e *contract.OrderPlaced) { e.Total.Currency = "eur" },
	} {
		bad := good
		spoil(&bad)
		if err := new(Payment).describe(bad); fault.ClassOf(err) != fault.ClassPermanent {
			t.Errorf("%s: got %v; want a permanent fault", name, err)
		}
	}
}

func TestText_Amounts_ReadAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	for want, m := range map[string]contract.Money{
		"3.00 EUR": {Amount: 300, Currency: "EUR"}, "0.05 EUR": {Amount: 5, Currency: "EUR"}, "-1.20 EUR": {Amount: -120, Currency: "EUR"},
		"700 JPY": {Amount: 700, Currency: "JPY"}, "1.005 KWD": {Amount: 1005, Currency: "KWD"},
	} {
		if got := text(m.Amount, m.Currency); got != want {
			t.Errorf("%+v reads %q; want %q", m, got, want)
		}
	}
}
