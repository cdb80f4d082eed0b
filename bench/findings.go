package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
)

// machine stands in the place of a way for figures of the machine itself.
const machine = "machine"

// findings is what a run came to.
type findings struct {
	records  []record
	figures  []figure
	goals    []goal
	promises []promise
	brief    bool // a short run, which says nothing about goals
}

// record is one measurement as it was taken.
type record struct {
	Kind string `json:"kind"`
	Data any    `json:"data"`
}

// figure is a line of the table: one measure of several ways, each the median of
// its rounds.
type figure struct {
	Section string             `json:"section"`
	Measure string             `json:"measure"`
	Values  map[string]float64 `json:"values"`
}

// goal compares a value with a bound.
type goal struct {
	Section string  `json:"section"`
	What    string  `json:"what"`
	Value   float64 `json:"value"`
	Bound   string  `json:"bound"`
	OK      bool    `json:"ok"`
}

// promise is what must hold however slow the machine is.
type promise struct {
	Section string `json:"section"`
	What    string `json:"what"`
	Found   string `json:"found"`
	OK      bool   `json:"ok"`
}

// add keeps a measurement for the JSON lines.
func (f *findings) add(kind string, data any) { f.records = append(f.records, record{kind, data}) }

func (f *findings) figure(section, measure string, values map[string]float64) {
	f.figures = append(f.figures, figure{section, measure, values})
}

// bound is what a goal's value must keep to.
type bound struct {
	text string
	ok   func(float64) bool
}

func atLeast(b float64) bound {
	return bound{fmt.Sprintf(">= %g", b), func(v float64) bool { return v >= b }}
}

func atMost(b float64) bound {
	return bound{fmt.Sprintf("<= %g", b), func(v float64) bool { return v <= b }}
}

func (f *findings) goal(section, what string, value float64, b bound) {
	if f.brief {
		return
	}
	value = math.Round(value*1000) / 1000
	f.goals = append(f.goals, goal{section, what, value, b.text, b.ok(value)})
}

// promise notes whether Pavane's log is what it must be. What the textbook's
// holds is a figure, no promise of ours.
func (f *findings) promise(section string, w way, what string, log *tally) {
	if w.poll == 0 {
		f.promises = append(f.promises, promise{section, what, log.String(), log.clean()})
	}
}

// write prints everything, and returns an error when a promise was broken, or a
// goal missed where that counts.
func (f *findings) write(w io.Writer, o options) error {
	print := f.table
	if o.json {
		print = f.lines
	}
	if err := print(w); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	for _, p := range f.promises {
		if !p.OK {
			return fmt.Errorf("a promise is broken in %s: want %s, found %s", p.Section, p.What, p.Found)
		}
	}
	for _, g := range f.goals {
		if !g.OK && o.strict {
			return errMissed
		}
	}
	return nil
}

func (f *findings) lines(w io.Writer) error {
	enc := json.NewEncoder(w)
	all := f.records
	for _, v := range f.figures {
		all = append(all, record{"figure", v})
	}
	for _, v := range f.goals {
		all = append(all, record{"goal", v})
	}
	for _, v := range f.promises {
		all = append(all, record{"promise", v})
	}
	for _, line := range all {
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// table prints each section's figures, and below them its goals and promises.
func (f *findings) table(w io.Writer) error {
	ways := []string{pavane().name, textbook1000().name, textbook100().name, machine}
	var b strings.Builder
	line := func(name string, cells ...string) {
		text := fmt.Sprintf("%-52s", name)
		for _, c := range cells {
			text += fmt.Sprintf(" %14s", c)
		}
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	line("")
	line("", ways...)
	for _, section := range f.sections() {
		line(section)
		for _, v := range f.figures {
			if v.Section == section {
				line("  "+v.Measure, cells(v.Values, ways)...)
			}
		}
		for _, g := range f.goals {
			if g.Section == section {
				line("  goal: "+g.What, number(g.Value), g.Bound, verdict(g.OK, "MISSED"))
			}
		}
		for _, p := range f.sumPromises(section) {
			line("  promise: "+p.What, verdict(p.OK, "BROKEN: "+p.Found))
		}
	}
	if f.brief {
		line("a short run: it checks promises, and says nothing about speed goals")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// sections are the names of those that have anything to tell, as they came.
func (f *findings) sections() []string {
	var names []string
	add := func(name string) {
		for _, have := range names {
			if have == name {
				return
			}
		}
		names = append(names, name)
	}
	for _, v := range f.figures {
		add(v.Section)
	}
	for _, p := range f.promises {
		add(p.Section)
	}
	return names
}

// sumPromises makes one line of a promise that was looked at several times: the
// first time it was broken, else the last.
func (f *findings) sumPromises(section string) []promise {
	var sums []promise
	for _, p := range f.promises {
		if p.Section != section {
			continue
		}
		known := false
		for i := range sums {
			if sums[i].What != p.What {
				continue
			}
			known = true
			if sums[i].OK {
				sums[i] = p
			}
		}
		if !known {
			sums = append(sums, p)
		}
	}
	return sums
}

func cells(values map[string]float64, ways []string) []string {
	texts := make([]string, len(ways))
	for i, name := range ways {
		if v, ok := values[name]; ok {
			texts[i] = number(v)
		}
	}
	return texts
}

// number prints a value with what digits it is worth.
func number(v float64) string {
	switch {
	case v == math.Trunc(v) || math.Abs(v) >= 1000:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

func verdict(ok bool, otherwise string) string {
	if ok {
		return "ok"
	}
	return otherwise
}
