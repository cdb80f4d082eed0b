package page_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// tab is the page in a browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func (p tab) run(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// until waits for a JavaScript expression to be true.
func (p tab) until(what, expression string) {
	p.t.Helper()
	_, err := chromedp.Run(p.ctx, chromedp.Poll[bool]("Boolean("+expression+")", chromedp.WithPollingTimeout(time.Minute), chromedp.WithPollingInterval(50*time.Millisecond)))
	if err != nil {
		text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.body.innerText`))
		p.t.Fatalf("%s was not seen: %v; the page says:\n%.6000s", what, err, text)
	}
}

// value evaluates a JavaScript expression; a promise is waited for.
func value[T any](p tab, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// do evaluates JavaScript for its effect.
func (p tab) do(script string) {
	p.t.Helper()
	value[bool](p, "(() => { "+script+"; return true })()")
}

func TestPage(t *testing.T) {
	dir := t.TempDir()
	url := demo(t, dir)
	ctx, complaints := browser(t)
	p := tab{t, ctx}
	p.run(chromedp.EmulateViewport(1440, 900), chromedp.Navigate(url))
	p.until("the demo's orders", `document.querySelectorAll(".row").length >= 3`)
	for _, part := range []struct {
		name string
		test func(tab)
	}{
		{"PlacedOrder_IsSeenConfirmedWithItsStory", placeOne},
		{"DeclinedOrder_GivesItsStockBackInSight", declineOne},
		{"Story_IsSteppedThroughWithTheKeyboard", stepThrough},
		{"StoryThatDoesNotCome_IsAskedForAgain", loseStory},
		{"KilledService_SagaWaitsAndFinishes", killService},
		{"PoisonKey_IsParkedLookedIntoAndRedriven", parkPoison},
		{"Fault_IsShownAndHealed", healFault},
		{"WhatCanBeClicked_StaysInItsPlace", stayInPlace},
		{"EachEffect_IsSeenWithinTwoSeconds", func(p tab) { seeEffects(p); complaints.pardon() }},
		{"LostPiece_TurnsRedAndNamesTheOrder", losePiece(dir)},
		{"Keyboard_ReachesEveryControl", reachAll},
		{"Everything_HasANameForScreenReaders", nameAll},
		{"EachView_FitsWhoCannotSeeOrUseAMouse", checkViews},
		{"Map_CountsTheReactions", countReactions},
		{"Gauges_ShowEveryInstance", showGauges},
		{"HoursUnderLoad_TakeLittleMemoryAndFramesGoOn", hoursUnderLoad},
		{"Screenshots_OfBothThemesAndSizes", screenshots},
		{"Documents_ShowTheWholeAPIAndAllEvents", readDocuments},
		{"FilesOfAnotherVersion_ArePassedByLoadingAnew", func(p tab) { loadAnew(p); complaints.pardon() }},
		{"WithoutTheToken_NothingOfAnOperatorIsOffered", withoutToken},
		{"ANewToken_IsTakenByAnOpenPage", withNewToken(url[strings.Index(url, "#")+1:])},
		{"WithACallersToken_EachRequestShowsIt", withCallersToken},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(tab{t, ctx}) })
	}
	for _, said := range complaints.said {
		t.Errorf("the console complains: %s", said)
	}
}

// events in the diagram by what they are called for screen readers.
const events = `[...document.querySelectorAll("#diagram .event")].map(e => e.getAttribute("aria-label"))`

func placeOne(p tab) {
	p.run(chromedp.Click(chromedp.CSS("#one")))
	p.until("that it is confirmed", `/confirmed/.test(document.getElementById("answer").textContent)`)
	for _, kind := range []string{"order.placed", "inventory.reserved", "payment.authorized", "order.confirmed", "payment.captured", "inventory.shipped"} {
		p.until(kind+" applied", events+`.some(e => e.startsWith("`+kind+` ") && e.includes("in the log") && e.includes("applied by"))`)
	}
	p.until("that the sums are right", `document.querySelector(".conservation.balanced")`)
}

func declineOne(p tab) {
	p.run(chromedp.Click(chromedp.CSS("#declined")))
	p.until("that it is declined", `/cancelled: payment declined/.test(document.getElementById("answer").textContent)`)
	p.until("the refusal", events+`.some(e => e.startsWith("payment.declined"))`)
	p.until("the compensation", `document.querySelector("#diagram .event.comp")?.getAttribute("aria-label").startsWith("inventory.released")`)
	p.until("that inventory says so", `[...document.querySelectorAll(".card [aria-current]")].some(e => e.textContent === "released")`)
	p.until("that nothing is in flight", `document.querySelector(".conservation.balanced") && !document.querySelector(".flight.some")`)
}

func stepThrough(p tab) {
	p.run(chromedp.Focus(chromedp.CSS("#diagram")), chromedp.KeyEvent(kb.Home))
	p.until("the first moment alone", `document.querySelectorAll("#diagram .event").length === 1`)
	p.run(chromedp.Focus(chromedp.CSS("#diagram")), chromedp.KeyEvent(kb.ArrowRight))
	p.until("the event in the log", events+`[0].includes("in the log")`)
	p.run(chromedp.Focus(chromedp.CSS("#diagram")), chromedp.KeyEvent(" "))
	p.until("the rest, by itself", events+`.some(e => e.startsWith("order.cancelled"))`)
	p.run(chromedp.Focus(chromedp.CSS("#diagram")), chromedp.KeyEvent(kb.End))
	p.run(chromedp.Focus(chromedp.CSS("#list")), chromedp.KeyEvent(kb.End))
	p.until("the oldest order chosen", `document.querySelector(".row[aria-selected=true]")?.getAttribute("aria-posinset") === document.querySelector(".row")?.getAttribute("aria-setsize")`)
}

// loseStory has one story not answered, and of another one no service's part.
func loseStory(p tab) {
	for _, lost := range []struct{ answer, seen string }{
		{`new Response("{}", { status: 503 })`, `/cannot be told now/.test(document.getElementById("story-sub").textContent)`},
		{`Response.json({ events: [], applied: [], parked: [], missing: [{ service: "order-svc" }] })`, `/missing: order-svc/.test(document.getElementById("story-sub").textContent)`},
	} {
		p.do(`const before = window.fetch; window.back = () => { window.fetch = before; };
			window.fetch = (path, options) => (String(path).endsWith("/story") ? Promise.resolve(` + lost.answer + `) : before(path, options));
			[...document.querySelectorAll(".row[aria-selected=false]")].at(-1).click()`)
		p.until("that the story is not there", lost.seen)
		p.do(`window.back()`)
		p.until("the story", `!(`+lost.seen+`) && `+events+`.some(e => e.startsWith("order.placed"))`)
	}
}

// killService has a service down while an order is placed, and kills another one
// in the middle of it: the saga waits, and ends when they are back.
func killService(p tab) {
	p.run(chromedp.Click(chromedp.CSS("#tab-break")))
	p.until("what can be broken", `document.querySelector("[data-break='kill payment-svc']")`)
	p.do(`document.getElementById("break-for").value = "0"; document.getElementById("follow").checked = true`)
	p.run(chromedp.Click(chromedp.CSS("[data-break='down payment-svc']")))
	p.until("that payment is down, on every view", `/broken now: down payment-svc/.test(document.getElementById("broken").textContent)`)
	p.run(chromedp.Click(chromedp.CSS("#one")), chromedp.Click(chromedp.CSS("#tab-story")))
	p.until("that the order is under way", `/is under way/.test(document.getElementById("answer").textContent)`)
	p.until("its story", `/under way/.test(document.getElementById("story-title").textContent)`)
	p.until("that the stock is reserved", events+`.some(e => e.startsWith("inventory.reserved") && e.includes("in the log"))`)
	p.until("that payment does not answer", `[...document.querySelectorAll(".card")].some(c => c.textContent.includes("payment-svc") && /does not answer|overdue/.test(c.textContent))`)
	p.run(chromedp.Click(chromedp.CSS("#tab-break")), chromedp.Click(chromedp.CSS("[data-break='kill inventory-svc']")))
	p.until("that inventory was killed", `/kill inventory-svc: killed/.test(document.getElementById("break-notes").textContent)`)
	p.run(chromedp.Click(chromedp.CSS("#heal-all")))
	p.until("that it is confirmed after all", `/confirmed/.test(document.getElementById("answer").textContent)`)
	p.until("that nothing is broken", `document.getElementById("broken").hidden`)
	p.until("that the sums are right", `document.querySelector(".conservation.balanced") && !document.querySelector(".flight.some")`)
}

// parkPoison writes records that nobody can handle, looks into one that waits,
// and has it tried again.
func parkPoison(p tab) {
	p.run(chromedp.Click(chromedp.CSS("#tab-break")), chromedp.Click(chromedp.CSS("[data-break='poison']")))
	p.until("that the poison is in the log", `/poison: \d+ records written/.test(document.getElementById("break-notes").textContent)`)
	p.run(chromedp.Click(chromedp.CSS("#tab-parked")))
	p.until("four causes", `["fault", "gap", "undecodable", "unknown_version"].every(c => document.querySelector("[data-cause=" + c + "] .key-line"))`)
	if strange := value[[]string](p, `[...document.querySelectorAll(".row .what")].map((e) => e.textContent).filter((text) => !text.includes(" × "))`); len(strange) > 0 {
		p.t.Errorf("in the list is what nobody ordered: %q", strange)
	}
	p.run(chromedp.Click(chromedp.CSS("[data-cause=fault] .key-line")))
	p.until("what is inside", `["ce_type", "ce_sequence", "order_id", "reason"].every(t => document.getElementById("parked-detail").textContent.includes(t))`)
	p.run(chromedp.Click(chromedp.CSS("#redrive-one")))
	p.until("that a reason is wanted", `/Say why/.test(document.getElementById("parked-answer").textContent) && document.activeElement.id === "why"`)
	p.run(chromedp.SendKeys(chromedp.CSS("#why"), "to see it fail"), chromedp.Click(chromedp.CSS("#redrive-one")))
	p.until("that it was let go", `/let go: 1 key/.test(document.getElementById("parked-answer").textContent)`)
	p.until("who did it and why", `/redrive of 1 by operator.*to see it fail/.test(document.getElementById("parked-detail").textContent)`)
	p.until("that it is parked again", `document.querySelector("#parked-detail .record dd").textContent === "fault"`)
	p.run(chromedp.Click(chromedp.CSS("[data-cause=unknown_version] .cause-head button")))
	p.until("that the group was let go", `/let go: \d+ keys/.test(document.getElementById("parked-answer").textContent)`)
	p.run(chromedp.Click(chromedp.CSS("#redrive-all")))
	p.until("what no redrive helps", `/let go: \d+ keys; \d+ left alone/.test(document.getElementById("parked-answer").textContent)`)
	p.until("that all are parked again", `!document.querySelector("[data-cause=follows]")`)
}

// healFault has a fault healed by its time, and shows that who has no token has
// nothing to break with.
func healFault(p tab) {
	p.run(chromedp.Click(chromedp.CSS("#tab-break")))
	p.do(`document.getElementById("break-for").value = "3"`)
	p.run(chromedp.Click(chromedp.CSS("[data-break='pause inventory-svc']")))
	p.until("the pause", `/broken now: pause inventory-svc/.test(document.getElementById("broken").textContent)`)
	p.until("that it is seen on what counts", `/inventory-svc does not answer/.test(document.getElementById("verdict").textContent)`)
	p.until("that it is healed", `document.getElementById("broken").hidden && document.querySelector(".conservation.balanced")`)
	p.run(chromedp.Click(chromedp.CSS("[data-break='duplicates']")))
	p.until("the copies", `/duplicates: \d+ records written/.test(document.getElementById("break-notes").textContent)`)
	p.until("that they are absorbed", `document.querySelector("#diagram .absorbed")`)
	res, err := http.Post(value[string](p, "location.origin")+"/v1/break/faults", "application/json", strings.NewReader(`{"kind":"kill","service":"order-svc"}`))
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		p.t.Errorf("without the token: %s, want 403", res.Status)
	}
	p.run(chromedp.Click(chromedp.CSS("#tab-story")))
}

// reachAll goes round the page with the tab key, with each view in sight.
func reachAll(p tab) {
	for _, view := range []string{"gauges", "parked", "break", "story"} {
		p.run(chromedp.Click(chromedp.CSS("#tab-" + view)))
		reach(p)
	}
}

func reach(p tab) {
	const mark = `[...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
		.filter(e => !e.disabled && e.tabIndex >= 0 && (e.checkVisibility ? e.checkVisibility() : true))
		.map((e, i) => { e.dataset.reach ??= "r" + i; return e.dataset.reach + " " + e.tagName + "#" + e.id; })`
	wanted := value[[]string](p, mark)
	reached := map[string]bool{}
	p.do(`document.activeElement.blur()`)
	for range len(wanted) + len(wanted)/4 {
		p.run(chromedp.KeyEvent(kb.Tab))
		reached[value[string](p, `document.activeElement?.dataset.reach ?? ""`)] = true
	}
	for _, w := range wanted {
		if name, _, _ := strings.Cut(w, " "); !reached[name] && !strings.HasSuffix(w, "g#") {
			p.t.Errorf("the tab key does not reach %s", w)
		}
	}
}

func nameAll(p tab) {
	const nameless = `[...document.querySelectorAll("button, input, select, a, [role=listbox], [role=tabpanel], [role=group], svg[role]")]
		.filter(e => !(e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.labels?.length || e.textContent.trim()))
		.map(e => e.outerHTML.slice(0, 120))`
	for _, f := range value[[]string](p, nameless) {
		p.t.Errorf("no name for screen readers: %s", f)
	}
}

func countReactions(p tab) {
	p.run(chromedp.Click(chromedp.CSS("#tab-map")))
	p.until("the map", `document.querySelectorAll("#map .node").length >= 11`)
	p.until("that a release was counted", `[...document.querySelectorAll("#map .node")].some(n => n.querySelector("title")?.textContent.startsWith("inventory.released") && n.querySelector(".seen").textContent >= "1")`)
	for _, size := range []struct{ width, height int64 }{{390, 844}, {1440, 900}} {
		p.run(chromedp.EmulateViewport(size.width, size.height))
		p.until("the map drawn for this width", `document.querySelectorAll("#map svg.down").length === `+map[bool]string{true: "1", false: "0"}[size.width < 700])
		if got := value[[]string](p, hidden); len(got) > 0 || value[bool](p, `document.getElementById("map-drawing").scrollWidth > document.getElementById("map-drawing").clientWidth`) {
			p.t.Errorf("at %d pixels the map must fit and no line run behind a box; behind boxes: %q", size.width, got)
		}
	}
}

// hidden are the lines of the map that run behind a box.
const hidden = `[...document.querySelectorAll("#map .edge")].filter(e => {
	const boxes = [...document.querySelectorAll("#map .box")].map(b => b.getBBox());
	return Array.from({ length: 99 }, (_, i) => e.getPointAtLength(e.getTotalLength() * (i + 1) / 100)).some(p =>
		boxes.some(b => p.x > b.x + 2 && p.x < b.x + b.width - 2 && p.y > b.y + 2 && p.y < b.y + b.height - 2));
}).map(e => e.textContent)`

func showGauges(p tab) {
	p.run(chromedp.Click(chromedp.CSS("#tab-gauges")))
	p.until("four instances", `document.querySelectorAll("#instances tbody tr").length === 4`)
	p.until("the members", `document.querySelector("#chart-members .value").textContent === "5"`)
	p.run(chromedp.Click(chromedp.CSS("#tab-story")))
}

// screenshots go to the folder PAVANE_SHOTS, or nowhere.
func screenshots(p tab) {
	dir := os.Getenv("PAVANE_SHOTS")
	if dir == "" {
		dir = p.t.TempDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // for everybody
		p.t.Fatal(err)
	}
	p.run(chromedp.Click(chromedp.CSS("#hundred")))
	p.until("a hundred orders", `/100 accepted/.test(document.getElementById("answer").textContent)`)
	p.run(chromedp.Click(chromedp.CSS("#declined")))
	p.until("the last story", events+`.some(e => e.startsWith("inventory.released") && e.includes("applied"))`)
	for _, name := range []string{"light", "dark"} {
		p.run(theme(name))
		for _, size := range []struct {
			name          string
			width, height int64
		}{{"desktop", 1440, 900}, {"phone", 390, 844}} {
			p.run(chromedp.EmulateViewport(size.width, size.height))
			for _, view := range []string{"story", "map", "gauges", "parked", "break"} {
				p.do(`document.getElementById("tab-` + view + `").click(); scrollTo(0, 0)`)
				p.until("the view "+view, `document.querySelector("#`+view+`:not([hidden]) :is(.event, .node, #instances td, .cause, [data-break])")`)
				if view == "map" { // drawn anew a moment after its width has changed
					p.until("the map as it fits", `document.querySelector("#map-drawing svg").classList.contains("down") === (innerWidth < 700)`)
				}
				p.shoot(filepath.Join(dir, strings.Join([]string{size.name, name, view}, "-")+".png"), size.name == "phone")
			}
			p.fits(size.name)
		}
	}
	picture(p, dir)
}

// readDocuments opens the documentation of API and events.
func readDocuments(p tab) {
	p.run(chromedp.EmulateViewport(1440, 900), chromedp.Navigate(value[string](p, "location.origin")+"/docs"))
	p.until("the operations", `document.querySelector("#place-order .method.post") && document.querySelector("#redrive-parked")`)
	p.until("the events", `document.querySelectorAll("#events .entry").length >= 12`)
	p.until("a field within a field", `/unit_price/.test(document.getElementById("event-order.placed.v1").textContent)`)
	p.until("who reads it", `/read by .*payment-svc/.test(document.getElementById("event-order.placed.v1").textContent)`)
	p.run(chromedp.Click(chromedp.CSS("#contents a[href='#event-order.cancelled.v1']")))
	p.until("the chosen one in sight", `document.getElementById("event-order.cancelled.v1").getBoundingClientRect().top < innerHeight`)
	nameAll(p)
	p.accessible("the documents")
	for _, size := range []struct {
		name          string
		width, height int64
	}{{"desktop", 1440, 900}, {"phone", 390, 844}} {
		p.run(chromedp.EmulateViewport(size.width, size.height))
		p.fits(size.name)
	}
}

// loadAnew opens the page through a proxy that cannot give some of its files the
// first time, as an instance of another version cannot.
func loadAnew(p tab) {
	demo, err := url.Parse(value[string](p, "location.origin"))
	if err != nil {
		p.t.Fatal(err)
	}
	var asked sync.Map
	listens := make(chan bool, 1)
	proxy := httputil.NewSingleHostReverseProxy(demo)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := path.Base(r.URL.Path)
		if _, again := asked.LoadOrStore(name, true); !again && slices.Contains([]string{"dom.js", "saga.json", "style.css"}, name) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if name == "events" {
			select {
			case listens <- true:
			default: // it has before
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	p.t.Cleanup(func() { front.CloseClientConnections(); front.Close() })
	p.run(chromedp.Navigate(front.URL + "/"))
	select {
	case <-listens: // so it is not loaded anew any more
	case <-time.After(30 * time.Second):
		p.t.Fatal("the page does not run")
	}
	p.until("the orders", `document.querySelectorAll(".row").length >= 3`)
	for _, name := range []string{"dom.js", "saga.json", "style.css"} {
		if _, ok := asked.Load(name); !ok {
			p.t.Errorf("the page did not ask for %s", name)
		}
	}
	p.run(chromedp.Navigate(demo.String() + "/docs"))
}

// theme has the browser prefer light or dark.
func theme(name string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return err
	})
}

func (p tab) shoot(path string, whole bool) {
	p.t.Helper()
	shot := chromedp.CaptureScreenshot()
	if whole {
		shot = chromedp.FullScreenshot(100)
	}
	value[float64](p, `new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))`)
	png, err := chromedp.Run(p.ctx, shot)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, png, 0o644); err != nil { //nolint:gosec // a picture for everybody
		p.t.Fatal(err)
	}
}

// fits checks that nothing makes the whole page scroll sideways.
func (p tab) fits(size string) {
	p.t.Helper()
	wide := value[[]string](p, `document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".map, .diagram, .scroll")).map(e => e.tagName + "#" + e.id + "." + e.getAttribute("class")).slice(0, 8)`)
	if len(wide) > 0 {
		text, _ := json.Marshal(slices.Compact(wide))
		p.t.Errorf("on a %s the page is wider than the screen: %s", size, text)
	}
}
