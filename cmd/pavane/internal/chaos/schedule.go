// Package chaos owns a run of faults against a stack under load, and the verdict
// on it: a schedule that a seed decides, orders on a constant schedule, what
// became of both, and reports of it.
package chaos

import (
	"math/rand/v2"
	"slices"
	"time"

	"pavane/cmd/pavane/internal/fault"
)

const (
	// leadIn is before the first fault, leadOut after the last: orders run as if
	// nothing were.
	leadIn  = 3 * time.Second
	leadOut = 3 * time.Second
	// rest is how long a resource is left alone after a fault, so that what came
	// of it can be told.
	rest = time.Second
)

// Planned is a fault of a schedule.
type Planned struct {
	At  time.Duration `json:"at_ns"`  // since the begin of the run
	For time.Duration `json:"for_ns"` // 0: it is over when it has begun
	fault.Spec
}

func (p Planned) end() time.Duration { return p.At + p.For }

// Plan deals out faults for a run of a length, one every so often on average, as
// often of one kind as of another. The same arguments give the same schedule.
// Faults overlap, but no two at the same resource.
func Plan(seed uint64, length, every time.Duration, kinds []fault.Kind) []Planned {
	p := planner{rng: rand.New(rand.NewPCG(seed, 0)), kinds: kinds, busy: map[string]time.Duration{}}
	var plan []Planned
	for at := leadIn; at < length-leadOut; at += every/2 + time.Duration(p.rng.Int64N(int64(every)+1)) {
		if f, ok := p.deal(at, length-leadOut); ok {
			plan = append(plan, f)
		}
	}
	return plan
}

// Possible leaves out the faults that something is missing for, and tells what. The
// rest of the schedule is that of a system where nothing is.
func Possible(plan []Planned, kinds []fault.Kind, missing func(kind string) error, tell func(format string, args ...any)) []Planned {
	for _, k := range kinds {
		if err := missing(k.Name); err != nil {
			before := len(plan)
			plan = slices.DeleteFunc(plan, func(p Planned) bool { return p.Kind == k.Name })
			tell("%d faults %q are left out: %v", before-len(plan), k.Name, err)
		}
	}
	return plan
}

type planner struct {
	rng   *rand.Rand
	kinds []fault.Kind
	deck  []fault.Kind
	busy  map[string]time.Duration // resource → when it is free again
}

// deal takes the next kind and a target that is free at the moment; false when
// none is, or the time left is too short for it.
func (p *planner) deal(at, end time.Duration) (Planned, bool) {
	for range p.kinds {
		k := p.draw()
		f := Planned{At: at, Spec: fault.Spec{Kind: k.Name, Seed: p.rng.Uint64()}}
		if k.Most > 0 {
			f.For = k.Least + time.Duration(p.rng.Int64N(int64(k.Most-k.Least)+1)).Round(10*time.Millisecond)
		}
		if f.end() > end || !p.aim(&f, k) {
			continue
		}
		p.busy[f.Resource()] = f.end() + rest
		return f, true
	}
	return Planned{}, false
}

// draw takes a kind from the deck, which is shuffled anew when it is used up.
func (p *planner) draw() fault.Kind {
	if len(p.deck) == 0 {
		p.deck = slices.Clone(p.kinds)
		p.rng.Shuffle(len(p.deck), func(i, k int) { p.deck[i], p.deck[k] = p.deck[k], p.deck[i] })
	}
	k := p.deck[0]
	p.deck = p.deck[1:]
	return k
}

// aim chooses what the fault is about, among what is free.
func (p *planner) aim(f *Planned, k fault.Kind) bool {
	var free []fault.Spec
	for _, service := range orNone(k.Services) {
		for _, server := range orNone(k.Servers) {
			s := f.Spec
			s.Service, s.Server = service, server
			if p.busy[s.Resource()] <= f.At {
				free = append(free, s)
			}
		}
	}
	if len(free) == 0 {
		return false
	}
	f.Spec = free[p.rng.IntN(len(free))]
	return true
}

func orNone(names []string) []string {
	if len(names) == 0 {
		return []string{""}
	}
	return names
}
