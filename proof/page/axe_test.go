package page_test

import (
	_ "embed"
	"strings"

	"github.com/chromedp/chromedp"
)

// axe is axe-core 4.14.1 as npm has it: the usual checks of what people need who
// cannot see or use a mouse (WCAG 2.1, levels A and AA).
//
//go:embed vendored/axe.min.js
var axe string

// accessible has axe-core look at what is in sight. Left out is an experimental
// rule that counts text of a drawing which is hidden from those who hear its name.
func (p tab) accessible(where string) {
	p.t.Helper()
	const look = `axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], rules: { "label-content-name-mismatch": { enabled: false } } }).then(r => r.violations.flatMap(v =>
		v.nodes.map(n => v.id + ": " + n.target.join(" ") + ": " + n.failureSummary.replace(/\s+/g, " ").slice(0, 200))))`
	p.run(chromedp.Evaluate[chromedp.Void](axe))
	for _, violation := range value[[]string](p, look) {
		p.t.Errorf("%s: %s", where, violation)
	}
}

// checkViews does so for each view, in both themes.
func checkViews(p tab) {
	for _, name := range []string{"light", "dark"} {
		p.run(theme(name))
		for _, view := range []string{"story", "map", "gauges", "parked", "break"} {
			p.do(`document.getElementById("tab-` + view + `").click()`)
			p.until("the view "+view, `!document.getElementById("`+view+`").hidden`)
			p.accessible(strings.Join([]string{name, view}, ", "))
		}
	}
}
