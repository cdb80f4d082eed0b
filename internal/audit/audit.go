package audit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// between is the pause before the system is looked at again.
const between = 300 * time.Millisecond

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
	return run(ctx, src, settle, Load)
}

func run(ctx context.Context, src Source, settle time.Duration, load func(context.Context, Source) (*Data, error)) (Verdict, error) {
	begin := time.Now()
	tell, told := src.Progress, begin
	for {
		last := time.Since(begin) >= settle
		d, err := load(ctx, src)
		if err != nil && (last || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
			return Verdict{}, err
		}
		var why string
		if err != nil {
			why = err.Error()
		} else {
			v := judge(d, settle, last)
			if v.Clean || last {
				v.Seconds = time.Since(begin).Seconds()
				return v, nil
			}
			src.Progress = nil // this look has told the sizes
			why = fmt.Sprintf("%d differences, they may be on their way (%s)", len(v.Differences), v.Differences[0].Text)
		}
		if tell != nil && time.Since(told) >= progressEvery {
			told = time.Now()
			tell("looking again: %s", why)
		}
		select {
		case <-time.After(between):
		case <-ctx.Done():
			return Verdict{}, ctx.Err()
		}
	}
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
	v.Clean = len(v.Differences) == 0
	return v
}
