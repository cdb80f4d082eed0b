package event

import (
	"cmp"
	"slices"
	"time"
)

// Position is what decides where an event stands in a story that is joined from
// several services.
type Position struct {
	Service     string // who wrote it
	Sequence    int64  // its number there
	ID          string
	CausationID string    // the event behind it; empty: none
	CreatedAt   time.Time // by the clock of its service's database
}

// precedes holds for an event's cause and for what its service wrote before it.
func (p Position) precedes(q Position) bool {
	return p.ID == q.CausationID && p.ID != q.ID || p.Service == q.Service && p.Sequence < q.Sequence
}

// InOrder returns events with each after its cause and after those before it in
// its service's sequence, and otherwise in the order of the clocks. These are of
// several databases and may jump, so they only decide what nothing else does.
func InOrder[E any](events []E, of func(E) Position) []E {
	rest := slices.Clone(events)
	slices.SortFunc(rest, func(a, b E) int {
		p, q := of(a), of(b)
		return cmp.Or(p.CreatedAt.Compare(q.CreatedAt), cmp.Compare(p.Service, q.Service), cmp.Compare(p.Sequence, q.Sequence))
	})
	told := make([]E, 0, len(rest))
	for len(rest) > 0 {
		next := slices.IndexFunc(rest, func(e E) bool {
			return !slices.ContainsFunc(rest, func(other E) bool { return of(other).precedes(of(e)) })
		})
		next = max(next, 0) // a circle of causes cannot be; if it is, the clock decides
		told = append(told, rest[next])
		rest = slices.Delete(rest, next, next+1)
	}
	return told
}
