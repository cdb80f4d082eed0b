package payment

import (
	"testing"

	"pavane/payment-svc/internal/provider"
	"pavane/proof/search"
)

// TestMachine_File_SaysWhatTheCodeDoes writes down what learn and done make of
// every fact in every state they lead to, for a payment by wallet. proof/search
// relies on the file.
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

// byCard is a payment by card with its charge.
type byCard struct {
	Payment
	Charge
}

// TestMachine_CardFile_SaysWhatTheCodeDoes does the same for a payment by card,
// with its charge. The provider's answers come from outside, at any time.
func TestMachine_CardFile_SaysWhatTheCodeDoes(t *testing.T) {
	t.Parallel()
	c := search.Code[byCard]{
		Service: "payment-svc", Start: byCard{Payment: Payment{OrderID: "o-1", State: StateWaiting}},
		Name: func(b byCard) string {
			return search.CardState(search.PaymentState(string(b.State), b.HasPlaced, b.HasReserved), b.Wanted, string(b.Known))
		},
		Take: func(b byCard, fact string, _ bool) (byCard, search.Outcome) { return carded(b, fact) },
	}
	for f := Placed; f <= Returned; f++ {
		c.Facts = append(c.Facts, cardFact(f))
	}
	m, err := search.Explore(c)
	if err != nil {
		t.Fatal(err)
	}
	search.RequireCardFile(t, m)
}

// cardFact is the name of a fact in the file.
func cardFact(f Fact) string {
	if f > Cancelled {
		return f.String()
	}
	return f.String() + ".v1"
}

// carded is [Service.take] of an event and [Service.answer] of an answer, without
// their SQL. The database's constraints hold a [Card] to it.
func carded(b byCard, fact string) (byCard, search.Outcome) {
	f := Placed
	for cardFact(f) != fact {
		f++
	}
	before := b
	if f > Cancelled {
		state := map[Fact]provider.State{Held: provider.Held, Denied: provider.Refused, Taken: provider.Captured, Returned: provider.Voided}[f]
		if !b.due() || b.contradicts(state) || b.Wanted == "" {
			return before, search.Outcome{} // nobody asks, or only people can mend it
		}
		if f, news := b.hear(state); !news {
			return before, search.Outcome{}
		} else if f == Denied && before.Known != provider.None || f == Returned && want(b.Wanted) == wantHold {
			return before, search.Outcome{} // not from a provider that holds to its own states
		}
	}
	step, err := b.learn(f)
	if err != nil {
		return before, search.Outcome{Fault: true}
	}
	var out search.Outcome
	refusal := ""
	switch {
	case f > Cancelled && f == Denied && step == StepAuthorize:
		refusal = "refused"
	case f > Cancelled:
		out.Books = map[Step]string{StepAuthorize: "authorize", StepCapture: "capture", StepVoid: "void"}[step]
	case step == StepAuthorize:
		b.Wanted, b.Known = string(wantHold), provider.None
	case step == StepCapture:
		b.Wanted = string(wantCapture)
	case step == StepVoid || step == StepRefuse && b.State == StateAuthorizing:
		b.Wanted = string(wantVoid)
	}
	if f <= Cancelled && step != StepNone && step != StepRefuse {
		b.begin(step)
		return b, out
	}
	for _, e := range b.done(step, refusal) {
		out.Emits += e.Event.Kind()
	}
	b.Version, b.Reason = 0, "" // people's words, and what the events count
	return b, out
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
