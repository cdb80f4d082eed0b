package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// Print writes the report as tables for people.
func (r Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "%d orders in %g s at %g/s, %d errors", r.Orders, r.Seconds, r.Rate, r.Errors)
	for _, outcome := range slices.Sorted(maps.Keys(r.Outcome)) {
		fmt.Fprintf(t, "; %d %s", r.Outcome[outcome], outcome)
	}
	if r.First != "" {
		fmt.Fprintf(t, "\nthe first error: %s", r.First)
	}
	fmt.Fprintf(t, "\nmachine: %d cores, %.0f %% busy with everything, load average %.1f\n\n", r.Cores, 100*r.Busy, r.Load)
	fmt.Fprintf(t, "ms\tp50\tp90\tp99\tmax\t\n")
	fmt.Fprintf(t, "due to confirmed\t%.1f\t%.1f\t%.1f\t%.1f\t\n", r.Latency.P50, r.Latency.P90, r.Latency.P99, r.Latency.Max)
	fmt.Fprintf(t, "due to sent\t%.1f\t%.1f\t%.1f\t%.1f\t\n", r.Late.P50, r.Late.P90, r.Late.P99, r.Late.Max)
	if err := t.Flush(); err != nil {
		return err
	}
	if err := r.printHops(w); err != nil {
		return err
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	sum := Usage{}
	fmt.Fprintf(t, "\nCPU\t%% of a core\tms per order\tMiB\t\n")
	for _, u := range r.CPU {
		fmt.Fprintf(t, "%s\t%.1f\t%.2f\t%.0f\t\n", u.Process, u.Percent, u.PerUnit, u.RSS)
		sum.Percent, sum.PerUnit, sum.RSS = sum.Percent+u.Percent, sum.PerUnit+u.PerUnit, sum.RSS+u.RSS
	}
	fmt.Fprintf(t, "together\t%.1f\t%.2f\t%.0f\t\n", sum.Percent, sum.PerUnit, sum.RSS)
	return t.Flush()
}

func (r Report) printHops(w io.Writer) error {
	if len(r.Hops) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	sum := 0.0
	fmt.Fprintf(t, "\nwhere the time goes, ms\tmean\tp50\tp99\t\n")
	for _, h := range r.Hops {
		fmt.Fprintf(t, "… %s\t%.1f\t%.1f\t%.1f\t%s\n", h.Name, h.Mean, h.P50, h.P99, h.What)
		sum += h.Mean
	}
	fmt.Fprintf(t, "together\t%.1f\t\t\t\n", sum)
	return t.Flush()
}

// WriteJSON writes the report as lines of JSON, each with its kind: one "run",
// then a "hop" for each stretch and a "cpu" for each process.
func (r Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	run := r
	run.Hops, run.CPU = nil, nil
	type line struct {
		Kind string `json:"kind"`
		Data any    `json:"data"`
	}
	lines := []line{{"run", run}}
	for _, h := range r.Hops {
		lines = append(lines, line{"hop", h})
	}
	for _, u := range r.CPU {
		lines = append(lines, line{"cpu", u})
	}
	for _, l := range lines {
		if err := enc.Encode(l); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	return nil
}
