package providersim

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Faults is what goes wrong by switch and by percentage. Percentages are of the
// requests that change something, and of each alone; what is scripted for a token
// goes before them.
type Faults struct {
	Down    bool  `json:"down" doc:"every connection is cut without an answer"`
	SlowMS  int   `json:"slow_ms" doc:"milliseconds before anything is done"`
	LateMS  int   `json:"late_ms" doc:"milliseconds for what is late; 0: 1500"`
	StallMS int   `json:"stall_ms" doc:"milliseconds after which what is stalled is given up; 0: 30000"`
	Seed    int64 `json:"seed" doc:"of the choice; 0: another one each time"`

	RefusePercent    int `json:"refuse_percent"`
	StallPercent     int `json:"stall_percent"`
	FailPercent      int `json:"fail_percent"`
	FailAfterPercent int `json:"fail_after_percent"`
	LosePercent      int `json:"lose_percent"`
	TwicePercent     int `json:"twice_percent"`
	LatePercent      int `json:"late_percent"`
	GarbagePercent   int `json:"garbage_percent"`
}

// mode is what goes wrong with one request.
type mode int

const (
	soundly     mode = iota
	refusing         // the card is refused
	stalling         // nothing is done and nothing answered
	failing          // nothing is done; 500
	failingLate      // it is done; 500
	losing           // it is done; the connection is cut without an answer
	twice            // it is done and answered two times
	late             // it is done and answered long after it was asked for
	garbling         // it is done; the answer cannot be read
)

// tokens are the scripts by card token. All but refusals and tok_never go wrong
// once for each request, and go well when it is made again.
func tokens() map[string]mode {
	return map[string]mode{
		"tok_ok": soundly, "tok_refuse": refusing, "tok_stall": stalling, "tok_never": stalling, "tok_fail": failing,
		"tok_fail_after_charge": failingLate, "tok_lose_answer": losing, "tok_twice": twice, "tok_late": late, "tok_garbage": garbling,
	}
}

// faults decides what goes wrong.
type faults struct {
	mu   sync.Mutex
	set  Faults
	rng  *rand.Rand
	seen map[string]bool // requests by token scripts that went wrong already
}

func newFaults() *faults {
	f := &faults{seen: map[string]bool{}}
	f.put(Faults{})
	return f
}

func (f *faults) get() Faults {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set
}

func (f *faults) put(set Faults) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seed := cmp.Or(uint64(set.Seed), rand.Uint64())
	f.set, f.rng = set, rand.New(rand.NewPCG(seed, seed))
}

// choose says what goes wrong with a request on a card.
func (f *faults) choose(op, key, token string) mode {
	f.mu.Lock()
	defer f.mu.Unlock()
	base, _, _ := strings.Cut(token, ".") // tok_ok.7 is another card of the same kind
	scripted, known := tokens()[base]
	switch {
	case base == "tok_never" && op == "authorize":
		return stalling
	case scripted == refusing && op != "authorize":
		return soundly
	case scripted == refusing:
		return refusing
	case known && scripted != soundly && !f.seen[op+" "+key]:
		f.seen[op+" "+key] = true
		return scripted
	}
	return f.drawn(op)
}

func (f *faults) drawn(op string) mode {
	for _, m := range []struct {
		mode
		percent int
	}{
		{refusing, f.set.RefusePercent},
		{stalling, f.set.StallPercent},
		{failing, f.set.FailPercent},
		{failingLate, f.set.FailAfterPercent},
		{losing, f.set.LosePercent},
		{twice, f.set.TwicePercent},
		{late, f.set.LatePercent},
		{garbling, f.set.GarbagePercent},
	} {
		if (m.mode != refusing || op == "authorize") && f.rng.IntN(100) < m.percent {
			return m.mode
		}
	}
	return soundly
}

func (f Faults) late() time.Duration {
	return time.Duration(cmp.Or(f.LateMS, 1500)) * time.Millisecond
}

func (f Faults) stall() time.Duration {
	return time.Duration(cmp.Or(f.StallMS, 30_000)) * time.Millisecond
}

// first returns the charges by their last change, at most limit of them.
func first(charges []Charge, limit int) []Charge {
	slices.SortFunc(charges, func(a, b Charge) int { return cmp.Compare(a.Changed, b.Changed) })
	return charges[:min(limit, len(charges))]
}
