package search

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Report is what a complete search has seen.
type Report struct {
	States  int           // different states of the whole
	Visited int           // of them; all, when nothing was found
	Steps   int           // from those, the ones that change nothing included
	Depth   int           // steps to the farthest state
	Ends    int           // states in which every order is over
	Parts   int           // different states of one order
	Took    time.Duration // on one core
}

// String is the report on one line.
func (r Report) String() string {
	return fmt.Sprintf("%9d states, %10d steps, depth %2d, %6d ends, %6d states of one order, %5.1f s",
		r.States, r.Steps, r.Depth, r.Ends, r.Parts, r.Took.Seconds())
}

// Violation is a broken promise and a schedule that leads to it.
type Violation struct {
	What     string
	Schedule []Move
}

// Error lists the schedule.
func (v *Violation) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, after", v.What)
	for i, move := range v.Schedule {
		fmt.Fprintf(&b, "\n  %2d. %s", i+1, move)
	}
	return b.String()
}

// Search visits every state that can be reached and stops at the first, nearest
// one that breaks a promise. The error is a *Violation then. It takes one or two
// orders.
//
// A step that changes nothing is counted but not followed: at most it has used up
// a fault, and what can happen after it can happen without it. So a search is
// complete for any number of duplicates of which nobody takes note.
func (m *Model) Search() (Report, error) {
	if len(m.cfg.Orders) > 2 {
		return Report{}, fmt.Errorf("search: %d orders are too many to be searched, walk them", len(m.cfg.Orders))
	}
	began := time.Now()
	f := &frontier{m: m, same: m.interchangeable()}
	w := m.start()
	f.seen.add(f.pack(&w))
	var r Report
	bad := ""
	for done := 0; done < len(f.seen.keys) && bad == ""; {
		f.levels = append(f.levels, done)
		for end := len(f.seen.keys); done < end && bad == ""; done++ {
			bad = f.visit(done, &r)
		}
	}
	r.States, r.Depth, r.Parts, r.Took = len(f.seen.keys), len(f.levels)-1, len(m.parts), time.Since(began)
	if bad != "" {
		return r, f.violation(r.Visited - 1)
	}
	return r, nil
}

// visit checks a state and finds where it leads.
func (f *frontier) visit(at int, r *Report) (bad string) {
	w := unpack(f.seen.keys[at])
	r.Visited++
	if bad = f.m.check(&w); bad != "" {
		return bad
	}
	if f.m.over(&w) {
		r.Ends++
	}
	f.m.next(&w, func(_ *step, _ int, to world) bool {
		r.Steps++
		if to.orders != w.orders {
			f.seen.add(f.pack(&to))
		}
		return true
	})
	return ""
}

// start is nothing placed yet.
func (m *Model) start() (w world) {
	id := m.id(&local{})
	for k := range m.cfg.Orders {
		w.orders[k] = id
	}
	return w
}

// interchangeable is whether the two orders are alike, so that states which
// differ only in which is which are one.
func (m *Model) interchangeable() bool {
	o := m.cfg.Orders
	return len(o) == 2 && o[0].Customer == o[1].Customer && o[0].Price == o[1].Price && slices.Equal(o[0].Items, o[1].Items)
}

// frontier is how far a search is.
type frontier struct {
	m      *Model
	same   bool
	seen   set
	levels []int // where each distance from the start begins in seen.keys
}

const (
	partBits  = 28
	countBits = 4
)

// pack writes a world of two orders as a number.
func (f *frontier) pack(w *world) uint64 {
	a, b := w.orders[0], w.orders[1]
	if f.same && a > b {
		a, b = b, a
	}
	return uint64(a)<<(partBits+2*countBits) | uint64(b)<<(2*countBits) | uint64(w.dups)<<countBits | uint64(w.crashes)
}

func unpack(key uint64) (w world) {
	w.orders[0] = int32(key >> (partBits + 2*countBits))
	w.orders[1] = int32(key >> (2 * countBits) & (1<<partBits - 1))
	w.dups, w.crashes = uint8(key>>countBits&(1<<countBits-1)), uint8(key&(1<<countBits-1))
	return w
}

// violation finds a shortest way to a state, by looking level by level back for
// one that leads to it; so nothing need be kept of where a state came from. The
// way is then gone from the start, because interchangeable orders may have changed
// places.
func (f *frontier) violation(at int) *Violation {
	way := []uint64{f.seen.keys[at]}
	for level := len(f.levels) - 2; level >= 0; level-- {
		for i := f.levels[level]; i < f.levels[level+1]; i++ {
			w := unpack(f.seen.keys[i])
			if _, _, found := f.step(&w, way[0]); found {
				way = slices.Insert(way, 0, f.seen.keys[i])
				break
			}
		}
	}
	var v Violation
	w := f.m.start()
	for _, key := range way[1:] {
		move, to, _ := f.step(&w, key)
		v.Schedule, w = append(v.Schedule, move), to
	}
	v.What = f.m.check(&w)
	return &v
}

// step finds a step from w to a state.
func (f *frontier) step(w *world, key uint64) (move Move, end world, found bool) {
	f.m.next(w, func(s *step, order int, to world) bool {
		if found = f.pack(&to) == key; found {
			move, end = f.m.show(s.move, order), to
		}
		return !found
	})
	return move, end, found
}
