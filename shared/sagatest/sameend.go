package sagatest

import (
	"slices"
	"testing"

	"pavane/shared/event"
	"pavane/shared/fault"
)

// Run is one saga at a service, on a key of its own.
type Run[F, E comparable] struct {
	// Tell delivers a fact and returns what the service told because of it. A
	// permanent fault is delivered again after the others, as a redrive does.
	Tell func(fact F) ([]event.Numbered, error)
	// End is what it came to, when all was delivered: whatever must not depend on
	// the order of the facts. Told is all that Tell returned.
	End func(told []event.Numbered) E
}

// RequireSameEnd delivers the facts in every order there is, each of them twice,
// and fails the test unless all orders have the end that is wanted, and each
// numbered its events 1, 2, 3 … Begin makes the nth run, from 0 on. Facts come by
// several topics and more than once, so that no order can be ruled out.
func RequireSameEnd[F, E comparable](t testing.TB, want E, facts []F, begin func(n int) Run[F, E]) {
	t.Helper()
	for n, order := range permutations(slices.Concat(facts, facts)) {
		run := begin(n)
		told := deliverAll(t, run, order)
		for i, e := range told {
			if e.Sequence != int64(i+1) {
				t.Fatalf("in the order %v: event %d, %s, has the number %d", order, i+1, e.Event.Kind(), e.Sequence)
			}
		}
		if got := run.End(told); got != want {
			t.Fatalf("in the order %v the end is %+v, want %+v", order, got, want)
		}
	}
}

// deliverAll delivers the facts in their order until none is at fault any more.
func deliverAll[F, E comparable](t testing.TB, run Run[F, E], facts []F) (told []event.Numbered) {
	t.Helper()
	order := facts
	for len(facts) > 0 {
		var again []F
		for _, f := range facts {
			events, err := run.Tell(f)
			switch {
			case fault.ClassOf(err) == fault.ClassPermanent:
				again = append(again, f)
			case err != nil:
				t.Fatalf("in the order %v: %v: %v", order, f, err)
			}
			told = append(told, events...)
		}
		if len(again) == len(facts) {
			t.Fatalf("in the order %v: %v are at fault, whatever comes before them", order, again)
		}
		facts = again
	}
	return told
}

// permutations returns each distinct order of facts once.
func permutations[F comparable](facts []F) [][]F {
	if len(facts) == 0 {
		return [][]F{nil}
	}
	var all [][]F
	for i, f := range facts {
		if slices.Contains(facts[:i], f) {
			continue
		}
		for _, p := range permutations(slices.Concat(facts[:i], facts[i+1:])) {
			all = append(all, append([]F{f}, p...))
		}
	}
	return all
}
