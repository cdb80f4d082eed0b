package payment

import (
	"testing"

	"pavane/proof/search"
)

// TestMachine_File_SaysWhatTheCodeDoes writes down what learn and done make of
// every fact in every state they lead to. proof/search relies on the file.
func TestMachine_File_SaysWhatTheCodeDoes(t *testing.T) {
	t.Parallel()
	facts := []Fact{Placed, Reserved, Confirmed, Cancelled}
	c := search.Code[Payment]{
		Service: "payment-svc", Start: Payment{OrderID: "o-1", State: StateWaiting},
		Name: func(p Payment) string { return search.PaymentState(string(p.State), p.HasPlaced, p.HasReserved) },
	}
	byKind := map[string]Fact{}
	for _, f := range facts {
		kind := f.String() + ".v1"
		c.Facts, byKind[kind] = append(c.Facts, kind), f
	}
	c.Take = func(p Payment, kind string, grants bool) (Payment, search.Outcome) {
		return taken(p, byKind[kind], grants)
	}
	m, err := search.Explore(c)
	if err != nil {
		t.Fatal(err)
	}
	search.RequireFile(t, m)
}

// taken is [Service.take] without its SQL. The walks in saga_walk_test.go of the
// service hold take itself against the file.
func taken(p Payment, f Fact, grants bool) (Payment, search.Outcome) {
	before := p
	step, err := p.learn(f)
	if err != nil {
		return before, search.Outcome{Fault: true}
	}
	var refusal string
	if step == StepAuthorize && !grants {
		refusal = "short"
	}
	out := search.Outcome{Asked: step == StepAuthorize}
	if refusal == "" {
		out.Books = map[Step]string{StepAuthorize: "authorize", StepCapture: "capture", StepVoid: "void"}[step]
	}
	for _, e := range p.done(step, refusal) {
		out.Emits += e.Event.Kind()
	}
	return p, out
}
