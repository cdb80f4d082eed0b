package page_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"pavane/internal/devstack"
	"pavane/shared/pgtest"
)

// effectLimit is how soon the page shows what somebody broke on it, in milliseconds.
const effectLimit = 2000

// seeEffects breaks one thing after the other, and waits for what tells of it:
// the line of what is broken, that of what was done, or the count of money and stock.
func seeEffects(p tab) {
	p.run(chromedp.Click(chromedp.CSS("#tab-break")))
	p.do(`document.getElementById("break-for").value = "0"`)
	for _, e := range []struct{ button, where, text string }{
		{"restart notification-svc", "break-notes", "restart notification-svc: stopped"},
		{"kill payment-svc", "break-notes", "kill payment-svc: killed"},
		{"pause inventory-svc", "verdict", "inventory-svc does not answer"},
		{"down payment-svc", "verdict", "payment-svc does not answer"},
		{"broker", "broken-text", "broken now: broker"},
		{"postgres", "verdict", "inventory-svc, payment-svc do not answer"},
		{"postgres-slow", "broken-text", "broken now: postgres-slow"},
		{"clock", "broken-text", "broken now: clock"},
		{"provider", "broken-text", "broken now: provider"},
		{"replay", "break-notes", "replay: "},
	} {
		if e.button == "clock" && !clockMoves(p) {
			continue
		}
		took := value[float64](p, `(async () => {
			const begin = performance.now(), seen = () => document.getElementById("`+e.where+`").textContent.includes("`+e.text+`");
			if (seen()) throw new Error("it is seen before");
			document.querySelector("[data-break='`+e.button+`']").click();
			while (!seen() && performance.now() - begin < 9000) await new Promise(requestAnimationFrame);
			return performance.now() - begin;
		})()`)
		p.t.Logf("%s: seen after %.0f ms", e.button, took)
		if took > effectLimit {
			shown := value[string](p, `document.getElementById("`+e.where+`").textContent`)
			p.t.Errorf("%s: %q is seen after %.0f ms, want %d; it says %q", e.button, e.text, took, effectLimit, shown)
		}
		p.do(`document.getElementById("heal-all").click()`)
		p.until("that healing is over", `!document.getElementById("heal-all").disabled && document.getElementById("broken").hidden`)
		// A count that was under way meanwhile may be of a moment before.
		counted := value[float64](p, `parseInt(document.getElementById("checks").textContent)`)
		p.until("that all answer again", fmt.Sprintf(`parseInt(document.getElementById("checks").textContent) > %.0f + 1 && document.querySelector(".conservation.balanced")`, counted))
	}
}

// stayInPlace has faults come and go, and wants no button to move by it: a click
// that is under way would hit another one, and break something else.
func stayInPlace(p tab) {
	p.run(chromedp.Click(chromedp.CSS("#tab-break")))
	p.do(`document.getElementById("break-for").value = "3";
		window.places = new Map();
		const look = () => {
			if (!window.places) return;
			const place = [...document.querySelectorAll("#one, [data-break]")].map((b) => b.getBoundingClientRect()).map((r) => Math.round(r.left) + "," + Math.round(r.top)).join(" ");
			if (!window.places.has(place)) window.places.set(place, [document.getElementById("verdict"), document.getElementById("broken-text"), document.getElementById("break-answer")].map((e) => e.textContent).join(" | "));
			requestAnimationFrame(look);
		};
		look()`)
	for _, service := range []string{"payment-svc", "inventory-svc"} {
		p.run(chromedp.Click(chromedp.CSS("[data-break='pause " + service + "']")))
		p.until("that "+service+" is gone", `document.getElementById("verdict").textContent.includes("`+service+` does not answer")`)
		p.until("that it is healed", `document.getElementById("broken").hidden && document.querySelector(".conservation.balanced")`)
	}
	moved := value[[]string](p, `[...window.places.values()]`)
	p.do(`window.places = null`)
	if len(moved) != 1 {
		p.t.Errorf("the buttons have stood in %d places, want one:\n%s", len(moved), strings.Join(moved, "\n"))
	}
	p.run(chromedp.Click(chromedp.CSS("#tab-story")))
}

// clockMoves tells whether the clock can be moved here; where not, the page says
// what is missing.
func clockMoves(p tab) bool {
	_, err := devstack.Faketime()
	if err == nil {
		return true
	}
	if !value[bool](p, `document.querySelector("[data-break=clock]").disabled && document.getElementById("break-servers").textContent.includes(`+strconv.Quote(err.Error())+`)`) {
		p.t.Errorf("the page does not say that %v", err)
	}
	return false
}

// losePiece has the reservation of a cancelled order say that it still holds its
// stock, which the stock's own columns do not, and puts it right again.
func losePiece(dir string) func(tab) {
	return func(p tab) {
		db := pgtest.Open(p.t, inventoryOf(p.t, dir))
		var order string
		set := func(state, where string, args ...any) {
			if err := db.Get(p.t.Context(), &order, `update reservations set state = '`+state+`' where order_id = (`+where+`) returning order_id`, args...); err != nil {
				p.t.Fatal(err)
			}
		}
		set("reserved", `select order_id from reservations where state = 'released' limit 1`)
		p.until("the difference, in red", `document.querySelector(".conservation.differs") && /more pieces are reserved than/.test(document.getElementById("verdict").textContent)`)
		p.run(chromedp.Click(chromedp.CSS("#verdict button")))
		p.until("the story of the order that it names", `document.getElementById("story-title").textContent.includes("`+order+`") && !document.getElementById("story").hidden`)
		set("released", `select $1`, order)
		p.until("that the sums are right", `document.querySelector(".conservation.balanced")`)
	}
}

// inventoryOf is the address of inventory-svc's database in the demo of dir.
func inventoryOf(t *testing.T, dir string) string {
	t.Helper()
	var state struct{ Postgres string }
	data, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &state); err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(state.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	at.Path = "/inventory"
	return at.String()
}
