package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"pavane/internal/audit"
)

// What a run must reach to count.
const (
	landedShare = 0.95 // of the faults, inside of a saga
	placedShare = 0.90 // of the orders
)

// Struck is what became of a planned fault.
type Struck struct {
	Planned
	Began    time.Duration `json:"began_ns"` // since the begin of the run
	Healed   time.Duration `json:"healed_ns"`
	Inside   int           `json:"inside"`      // orders under way when it began
	Recovery time.Duration `json:"recovery_ns"` // from healed until an order that was placed after it was confirmed; 0: none was
	Did      string        `json:"did,omitempty"`
	Error    string        `json:"error,omitempty"`

	broken   bool          // it could not be healed
	recovery time.Duration // guarded by the book until the run is over
}

// Landed tells whether the fault happened, and inside of a saga.
func (s Struck) Landed() bool { return s.Error == "" && s.Inside > 0 }

// Lasted is from its begin until it was healed.
func (s Struck) Lasted() time.Duration { return s.Healed - s.Began }

// Report is what a run came to.
type Report struct {
	OK       bool     `json:"ok"`
	Failures []string `json:"failures"` // why it is not OK

	Seed     uint64         `json:"seed"`
	For      time.Duration  `json:"for_ns"`
	Rate     float64        `json:"rate"` // orders per second
	Began    time.Time      `json:"began"`
	Stopped  bool           `json:"stopped,omitempty"` // before its time
	Planned  int            `json:"planned"`           // faults
	Faults   []Struck       `json:"faults"`
	Due      int            `json:"due"` // orders
	Placed   int            `json:"placed"`
	Ended    map[string]int `json:"ended"`              // orders by outcome
	Open     []string       `json:"open,omitempty"`     // orders that did not end
	Unplaced []string       `json:"unplaced,omitempty"` // keys of those that were still being placed in the end
	AllEnded bool           `json:"all_ended"`
	End      time.Duration  `json:"end_ns"`      // how long after the last fault everything must have ended
	LastEnd  time.Duration  `json:"last_end_ns"` // from the last fault until the last order had ended
	Slowest  time.Duration  `json:"slowest_ns"`  // order, from its first request to its end

	LastRefusal string           `json:"last_refusal,omitempty"` // of an order that was not placed
	Counters    map[string]int64 `json:"counters"`               // of all services
	Audit       audit.Verdict    `json:"audit"`
	Memory      int64            `json:"memory_bytes"` // of this process at its peak, with load and audit; 0: not known
	Moments     []Moment         `json:"moments"`
}

// Landed counts the faults that happened inside of a saga.
func (r *Report) Landed() (n int) {
	for _, s := range r.Faults {
		if s.Landed() {
			n++
		}
	}
	return n
}

// judge decides whether the run is OK.
func (r *Report) judge() {
	fail := func(format string, args ...any) { r.Failures = append(r.Failures, fmt.Sprintf(format, args...)) }
	planned := r.Planned
	if r.Stopped { // then those that were not due any more do not count
		planned = len(slices.DeleteFunc(slices.Clone(r.Faults), func(s Struck) bool { return s.Error != "" && s.Inside == 0 }))
	}
	if n := r.Landed(); float64(n) < landedShare*float64(planned) || planned == 0 && !r.Stopped {
		fail("%d of %d faults landed inside a saga, want at least %.0f %%", n, planned, 100*landedShare)
	}
	if float64(r.Placed) < placedShare*float64(r.Due) {
		fail("%d of %d orders were placed, want at least %.0f %%; the last refusal: %s", r.Placed, r.Due, 100*placedShare, r.LastRefusal)
	}
	if n := len(r.Open); n > 0 {
		fail("%d orders had not ended %s after the last fault: %s", n, r.End, strings.Join(r.Open[:min(5, n)], ", "))
	}
	if n := len(r.Unplaced); n > 0 {
		fail("%d orders were still being placed %s after the last fault: %s; the last refusal: %s", n, r.End, strings.Join(r.Unplaced[:min(5, n)], ", "), r.LastRefusal)
	}
	if !r.AllEnded && len(r.Open)+len(r.Unplaced) == 0 {
		fail("the last order ended later than %s after the last fault", r.End)
	}
	switch {
	case !r.Audit.Clean:
		fail("the audit found %d differences, the first: %s", len(r.Audit.Differences), r.Audit.Differences[0].Text)
	case r.Audit.Settling != "":
		fail("not all effects were there %s after the last fault", r.End)
	}
	r.OK = len(r.Failures) == 0
}

// WriteJSON writes the whole report.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// Print writes what a person wants to know.
func (r *Report) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "at\tfault\tlasted\torders inside\tconfirmed again after\twhat happened")
	for _, s := range r.Faults {
		fmt.Fprintf(w, "%.1f s\t%s\t%.1f s\t%d\t%s\t%s\n", s.Began.Seconds(), s.Spec, s.Lasted().Seconds(), s.Inside, s.Recovered(), joinNonEmpty(s.Did, s.Missed()))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, line := range r.Summary() {
		fmt.Fprintln(out, line)
	}
	for _, f := range r.Failures {
		fmt.Fprintln(out, "FAILED:", f)
	}
	return nil
}

// Recovered is how long it took until orders were confirmed again.
func (s Struck) Recovered() string {
	if s.Recovery == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f s", s.Recovery.Seconds())
}

// Missed is why the fault does not count; empty: it does.
func (s Struck) Missed() string {
	switch {
	case s.Error != "":
		return "MISSED: " + s.Error
	case s.Inside == 0:
		return "MISSED: no order was under way"
	}
	return ""
}

// Summary is the report in a few lines.
func (r *Report) Summary() []string {
	var outcomes []string
	for _, o := range slices.Sorted(maps.Keys(r.Ended)) {
		outcomes = append(outcomes, fmt.Sprintf("%d %s", r.Ended[o], o))
	}
	c, planned := r.Counters, fmt.Sprint(r.Planned)
	if r.Stopped {
		planned += " (stopped before its time)"
	}
	return []string{
		fmt.Sprintf("faults: %d of %s landed inside a saga", r.Landed(), planned),
		fmt.Sprintf("orders: %d of %d placed; %s; the slowest took %.1f s", r.Placed, r.Due, strings.Join(outcomes, ", "), r.Slowest.Seconds()),
		fmt.Sprintf("all ended: %t, %.1f s after the last fault", r.AllEnded && len(r.Open) == 0, r.LastEnd.Seconds()),
		fmt.Sprintf("events: %d committed, %d in the log; %d records injected, %d parked because of them", r.Audit.Events, r.Audit.Records, r.Audit.Injected, r.Audit.Poisoned),
		fmt.Sprintf("counted by the services: %d duplicates dropped, %d gaps (poison makes some), %d attempts failed, %d logs healed, %d new epochs",
			c["pavane_inbox_duplicates_total"], c["pavane_inbox_gaps_total"], c["pavane_inbox_faults_total"], c["pavane_relay_healed_total"], c["pavane_relay_epochs_total"]),
		fmt.Sprintf("audit: clean %t, %d orders; load and audit took %d MiB of memory", r.Audit.Clean, r.Audit.Orders, r.Memory>>20),
	}
}
