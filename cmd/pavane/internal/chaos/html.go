package chaos

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
)

//go:embed report.html
var page string

// The timeline, in units of the drawing.
const (
	chartWidth = 1000.0
	chartLeft  = 190.0 // room for the names of the lanes
	laneHeight = 22.0
	barsHeight = 120.0
)

type bar struct{ X, Y, W, H float64 }

type mark struct {
	bar
	Class, Title string
}

type lane struct {
	Name  string
	Y     float64
	Marks []mark
}

type tick struct {
	X    float64
	Text string
}

// timeline is the report as a drawing.
type timeline struct {
	*Report
	Lines         []string
	Lanes         []lane
	Ended, Placed []bar // per second
	Ticks         []tick
	Width, Height float64
	Base, Top     float64 // of the bars
}

// WriteHTML writes one page with the verdict, the timeline and all faults. It
// needs nothing from elsewhere.
func (r *Report) WriteHTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{"seconds": seconds}).Parse(page)
	if err != nil {
		return fmt.Errorf("chaos: page: %w", err)
	}
	return t.Execute(w, r.draw())
}

func seconds(d interface{ Seconds() float64 }) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func (r *Report) draw() timeline {
	t := timeline{Report: r, Lines: r.Summary(), Width: chartLeft + chartWidth + 10, Top: barsHeight}
	length := max(float64(len(r.Moments)), 1)
	x := func(s float64) float64 { return chartLeft + min(s/length, 1)*chartWidth }
	most := 1
	for _, m := range r.Moments {
		most = max(most, m.Placed, m.sum())
	}
	column := func(i, n int) bar {
		h := barsHeight * float64(n) / float64(most)
		return bar{x(float64(i)), barsHeight - h, max(chartWidth/length-0.5, 0.5), h}
	}
	for i, m := range r.Moments {
		t.Placed, t.Ended = append(t.Placed, column(i, m.Placed)), append(t.Ended, column(i, m.sum()))
	}
	t.Lanes = r.lanes(x)
	t.Base = barsHeight + 8 + laneHeight*float64(len(t.Lanes))
	t.Height = t.Base + 24
	step := max(10, (int(length)/10+9)/10*10)
	for s := 0; s <= int(length); s += step {
		t.Ticks = append(t.Ticks, tick{x(float64(s)), fmt.Sprintf("%d s", s)})
	}
	return t
}

// lanes draws each resource's faults on a line.
func (r *Report) lanes(x func(seconds float64) float64) []lane {
	var names []string
	for _, s := range r.Faults {
		names = append(names, s.Resource())
	}
	slices.Sort(names)
	names = slices.Compact(names)
	lanes := make([]lane, len(names))
	for i, name := range names {
		lanes[i] = lane{Name: name, Y: barsHeight + 8 + laneHeight*float64(i)}
	}
	for _, s := range r.Faults {
		l := &lanes[slices.Index(names, s.Resource())]
		class := "fault"
		if !s.Landed() {
			class = "missed"
		}
		from, to := x(s.Began.Seconds()), x(s.Healed.Seconds())
		l.Marks = append(l.Marks, mark{bar{from, l.Y + 3, max(to-from, 3), laneHeight - 6}, class, s.title()})
		if s.Recovery > 0 {
			end := x((s.Healed + s.Recovery).Seconds())
			l.Marks = append(l.Marks, mark{bar{to, l.Y + 8, max(end-to, 1), laneHeight - 16}, "recovery", "confirmed again after " + s.Recovered()})
		}
	}
	return lanes
}

func (s Struck) title() string {
	return fmt.Sprintf("%s at %.1f s for %.1f s; %d orders inside. %s", s.Spec, s.Began.Seconds(), s.Lasted().Seconds(), s.Inside, joinNonEmpty(s.Did, s.Missed()))
}

func (m Moment) sum() (n int) {
	for _, k := range m.Ended {
		n += k
	}
	return n
}
