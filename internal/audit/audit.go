package audit

import (
	"context"
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
// younger than settle is left out and the rest stands.
func Run(ctx context.Context, src Source, settle time.Duration) (Verdict, error) {
	begin := time.Now()
	tell, told := src.Progress, begin
	for {
		looked := time.Now()
		d, err := Load(ctx, src)
		if err != nil {
			return Verdict{}, err
		}
		src.Progress = nil // the first look has told the sizes
		found, last := All(d), looked.Sub(begin) >= settle
		v := Verdict{
			Orders: len(d.Orders), Records: len(d.Log), Charges: len(d.Ledger), Provider: d.HasLedger,
			Injected: d.Injected.Records, Poisoned: d.Injected.Parked,
		}
		for _, s := range d.Services {
			v.Events += len(s.Rows)
		}
		if len(found) > 0 && last && settle > 0 {
			d.Grace, v.Settling = settle, settle.String()
			found = All(d)
		}
		if len(found) == 0 || last {
			v.Clean, v.Differences, v.Seconds = len(found) == 0, found, time.Since(begin).Seconds()
			return v, nil
		}
		if tell != nil && time.Since(told) >= progressEvery {
			told = time.Now()
			tell("%d differences; looking again, they may be on their way (%s)", len(found), found[0].Text)
		}
		select {
		case <-time.After(between):
		case <-ctx.Done():
			return Verdict{}, ctx.Err()
		}
	}
}
