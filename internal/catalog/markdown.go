package catalog

import (
	"fmt"
	"slices"
	"strings"
)

// mapOf draws the saga as a Mermaid flowchart. The nodes are events, because a
// reader follows an order from fact to fact; the arrows are the reactions.
func (c Catalogue) mapOf() string {
	var b strings.Builder
	b.WriteString("```mermaid\nflowchart LR\n")
	for _, e := range c.Events {
		shape := "[%q]"
		if e.Failure {
			shape = "{{%q}}"
		}
		fmt.Fprintf(&b, "  %s"+shape+"\n", e.Type, e.Kind)
	}
	origins := 0
	for _, s := range c.Services {
		for _, r := range s.Rows {
			from := fmt.Sprintf("origin%d([%q])", origins, r.Origin)
			if r.On != "" {
				from = c.typeOf(r.On)
			} else {
				origins++
			}
			b.WriteString(c.arrows(s.Name, from, r))
		}
	}
	b.WriteString(c.classes())
	return b.String() + "```"
}

func (c Catalogue) arrows(service, from string, r Row) string {
	var b strings.Builder
	for _, kind := range r.Emits {
		label := short(service)
		if r.Handler != "" {
			label += ": " + r.Handler
		}
		arrow := "-->"
		if e, _ := c.event(kind); e.Undoes != "" {
			arrow = "-.->" // dotted: it takes something back
		}
		fmt.Fprintf(&b, "  %s %s|%q| %s\n", from, arrow, label, c.typeOf(kind))
	}
	if len(r.Emits) == 0 {
		fmt.Fprintf(&b, "  %s --- %s(((%q)))\n", from, short(service), short(service))
	}
	return b.String()
}

// classes colours refusals and compensations.
func (c Catalogue) classes() string {
	var failures, undone []string
	for _, e := range c.Events {
		switch {
		case e.Failure:
			failures = append(failures, e.Type)
		case e.Undoes != "":
			undone = append(undone, e.Type)
		}
	}
	var b strings.Builder
	line := func(names []string, class, style string) {
		if len(names) > 0 {
			fmt.Fprintf(&b, "  classDef %s %s\n  class %s %s\n", class, style, strings.Join(names, ","), class)
		}
	}
	line(failures, "failure", "fill:#fdd,stroke:#b00,color:#000")
	line(undone, "compensation", "fill:#ffd,stroke:#a80,color:#000")
	return b.String()
}

// reactionTable lists all tables of reactions as one.
func (c Catalogue) reactionTable() string {
	rows := [][]string{{"service", "on", "runs", "may emit"}}
	for _, s := range c.Services {
		for _, r := range s.Rows {
			on, runs := "`"+r.On+"`", "–"
			if r.On == "" {
				on = r.Origin
			}
			if r.Handler != "" {
				runs = fmt.Sprintf("[`%s`](../%s)", r.Handler, r.File)
			}
			rows = append(rows, []string{s.Name, on, runs, codes(r.Emits)})
		}
	}
	return table(rows)
}

// eventTable lists the events with both their ends.
func (c Catalogue) eventTable() string {
	rows := [][]string{{"event", "from", "emitted on", "read by", "takes back"}}
	for _, e := range c.Events {
		var causes, readers []string
		for _, s := range c.emitters(e.Kind) {
			causes = append(causes, s.cause())
		}
		for _, s := range c.readers(e.Kind) {
			readers = append(readers, short(s.service))
		}
		kind := fmt.Sprintf("[`%s`](../%s/schema/%s.json)", e.Kind, contractDir, e.Kind)
		if e.Failure {
			kind += " (failure)"
		}
		from := make([]string, 0, 1)
		for _, p := range c.Publishers(e.Kind) {
			from = append(from, short(p))
		}
		rows = append(rows, []string{kind, strings.Join(from, ", "), strings.Join(causes, ", "), strings.Join(readers, ", "), codes(nonEmpty(e.Undoes))})
	}
	return table(rows)
}

func (c Catalogue) typeOf(kind string) string {
	e, ok := c.event(kind)
	if !ok {
		return strings.Map(func(r rune) rune {
			if r == '.' {
				return '_'
			}
			return r
		}, kind)
	}
	return e.Type
}

// short is a service's name without what all of them share.
func short(service string) string { return strings.TrimSuffix(service, "-svc") }

func codes(kinds []string) string {
	if len(kinds) == 0 {
		return "–"
	}
	return "`" + strings.Join(kinds, "`, `") + "`"
}

func nonEmpty(s string) []string {
	return slices.DeleteFunc([]string{s}, func(s string) bool { return s == "" })
}

// table writes rows as a Markdown table; the first one is the head.
func table(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString(strings.Repeat("| --- ", len(row)) + "|\n")
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// replaceBlock puts text between the two markers of a generated block.
func replaceBlock(document, name, text string) (string, error) {
	begin, end := "<!-- generated: "+name+" (make generate) -->", "<!-- end of "+name+" -->"
	before, rest, found := strings.Cut(document, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("no block between %q and %q", begin, end)
	}
	return before + begin + "\n\n" + text + "\n\n" + end + after, nil
}
