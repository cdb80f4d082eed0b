package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// between is the pause before the system is looked at again.
	between = 300 * time.Millisecond
	// atOnce is how many orders are looked at at a time, unless the source says so.
	atOnce = 100_000
)

// Verdict is what an audit came to.
type Verdict struct {
	Clean       bool         `json:"clean"`
	Differences []Difference `json:"differences"`
	Orders      int          `json:"orders"`
	Events      int          `json:"events"`  // committed in all outboxes
	Records     int          `json:"records"` // in the log
	Charges     int          `json:"charges"` // in the card provider's ledger
	Provider    bool         `json:"provider_looked_at"`
	Injected    int          `json:"injected,omitempty"`        // records in the log that were put there to break something
	Poisoned    int          `json:"injected_parked,omitempty"` // of those, how often one is parked, as it should be
	Settling    string       `json:"not_judged_younger_than,omitempty"`
	Seconds     float64      `json:"seconds"`
}

// Run audits the system. A clean look is final. Differences may only mean that
// something is on its way, so it looks again for as long as settle; then what is
// younger than settle is left out and the rest stands. Until then a server may
// also be late with an answer.
func Run(ctx context.Context, src Source, settle time.Duration) (Verdict, error) {
	return (&auditor{src: src, settle: settle, count: countOrders, load: load}).run(ctx)
}

// auditor looks at one share of the keys after the other.
type auditor struct {
	src    Source
	settle time.Duration
	count  func(ctx context.Context, src Source) (orders int, err error)
	load   func(ctx context.Context, src Source, s share) (*Data, error)

	begin, told time.Time
}

func (a *auditor) run(ctx context.Context) (Verdict, error) {
	a.begin, a.told = time.Now(), time.Now()
	var shares uint32
	err := a.until(ctx, func(bool) (string, error) {
		orders, err := a.count(ctx, a.src)
		shares = uint32(1 + max(orders-1, 0)/cmp.Or(a.src.AtOnce, atOnce))
		return "", err
	})
	var v Verdict
	for n := uint32(0); err == nil && n < shares; n++ {
		err = a.look(ctx, share{n, shares}, &v)
	}
	if err != nil {
		return Verdict{}, err
	}
	v.sort()
	v.Clean, v.Seconds = len(v.Differences) == 0, time.Since(a.begin).Seconds()
	return v, nil
}

// look adds to v what is found of a share.
func (a *auditor) look(ctx context.Context, s share, v *Verdict) error {
	src := a.src
	return a.until(ctx, func(last bool) (string, error) {
		d, err := a.load(ctx, src, s)
		if err != nil {
			return "", err
		}
		found := judge(d, a.settle, last)
		if n := len(found.Differences); n > 0 && !last {
			src.Progress = nil // this look has told the sizes
			return fmt.Sprintf("%d differences, they may be on their way (%s)", n, found.Differences[0].Text), nil
		}
		v.add(found)
		return "", nil
	})
}

// until looks again until there is no reason to, or settle is over: that is the last
// time.
func (a *auditor) until(ctx context.Context, look func(last bool) (why string, err error)) error {
	for {
		last := time.Since(a.begin) >= a.settle
		why, err := look(last)
		switch {
		case err != nil && (last || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)):
			return err
		case err != nil:
			why = err.Error()
		case why == "":
			return nil
		}
		if a.src.Progress != nil && time.Since(a.told) >= progressEvery {
			a.told = time.Now()
			a.src.Progress("looking again: %s", why)
		}
		select {
		case <-time.After(between):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// add takes in the verdict on another share.
func (v *Verdict) add(w Verdict) {
	v.Orders, v.Events, v.Records, v.Charges = v.Orders+w.Orders, v.Events+w.Events, v.Records+w.Records, v.Charges+w.Charges
	v.Injected, v.Poisoned = v.Injected+w.Injected, v.Poisoned+w.Poisoned
	v.Provider, v.Settling = w.Provider, cmp.Or(v.Settling, w.Settling)
	v.Differences = append(v.Differences, w.Differences...)
}

// sort brings what all shares have found into the order of the checks, each once:
// what belongs to no key is found with several.
func (v *Verdict) sort() {
	rank, once := map[string]int{}, map[Difference]bool{}
	for i, c := range Checks() {
		rank[c.Name] = i
	}
	v.Differences = slices.DeleteFunc(v.Differences, func(d Difference) bool {
		seen := once[d]
		once[d] = true
		return seen
	})
	slices.SortStableFunc(v.Differences, func(a, b Difference) int { return cmp.Compare(rank[a.Check], rank[b.Check]) })
}

// judge runs the checks. In the last look what is younger than settle is left out.
func judge(d *Data, settle time.Duration, last bool) Verdict {
	v := Verdict{
		Orders: len(d.Orders), Records: len(d.Log), Charges: len(d.Ledger), Provider: d.HasLedger,
		Injected: d.Injected.Records, Poisoned: d.Injected.Parked, Differences: All(d),
	}
	for _, s := range d.Services {
		v.Events += len(s.Rows)
	}
	if len(v.Differences) > 0 && last && settle > 0 {
		d.Grace, v.Settling = settle, settle.String()
		v.Differences = All(d)
	}
	return v
}
