package inventory

import (
	"testing"

	"pavane/proof/search"
)

// TestMachine_File_SaysWhatTheCodeDoes writes down what Next and done make of
// every fact in every state they lead to. proof/search relies on the file.
func TestMachine_File_SaysWhatTheCodeDoes(t *testing.T) {
	t.Parallel()
	c := search.Code[Reservation]{
		Service: "inventory-svc", Start: Reservation{OrderID: "o-1", State: StateNew},
		Name: func(r Reservation) string { return string(r.State) },
	}
	byKind := map[string]Fact{}
	for f := Placed; f <= Cancelled; f++ {
		kind := f.String() + ".v1"
		c.Facts, byKind[kind] = append(c.Facts, kind), f
	}
	c.Take = func(r Reservation, kind string, grants bool) (Reservation, search.Outcome) {
		return taken(r, byKind[kind], grants)
	}
	m, err := search.Explore(c)
	if err != nil {
		t.Fatal(err)
	}
	search.RequireFile(t, m)
}

// taken is [Service.take] without its SQL. The walks in saga_walk_test.go of the
// service hold take itself against the file.
func taken(r Reservation, f Fact, grants bool) (Reservation, search.Outcome) {
	step, err := r.Next(f)
	if err != nil {
		return r, search.Outcome{Fault: true}
	}
	var short string
	if step == StepReserve && !grants {
		short = "none left"
	}
	out := search.Outcome{Asked: step == StepReserve}
	if short == "" {
		out.Books = map[Step]string{StepReserve: "reserve", StepShip: "ship", StepRelease: "release"}[step]
	}
	for _, e := range r.done(step, short) {
		out.Emits += e.Event.Kind()
	}
	return r, out
}
