package page_test

import (
	"strings"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// withoutToken opens the page as somebody who has only its public address.
func withoutToken(p tab) {
	if address := value[string](p, "sessionStorage.operator + location.href"); strings.Contains(address, "#operator") || strings.HasPrefix(address, "undefined") {
		p.t.Errorf("the token must be in the tab and not in its address: %s", address)
	}
	p.do(`sessionStorage.clear()`)
	p.run(chromedp.EmulateViewport(1440, 900), chromedp.Navigate(value[string](p, "location.origin")+"/"))
	p.until("the orders", `document.querySelectorAll(".row").length >= 3`)
	p.run(chromedp.Click(chromedp.CSS("#tab-parked")))
	p.until("what is parked, to look at", `document.querySelector(".key-line") && !document.getElementById("parked-hint").hidden`)
	if value[bool](p, `Boolean(document.querySelector(".cause-head button, [data-break]")) || !document.getElementById("parked-form").hidden || !document.getElementById("tab-break").hidden`) {
		p.t.Error("there is something to redrive or to break with")
	}
	const sum = `document.getElementById("parked-sum").textContent`
	p.do(`const before = window.fetch; window.fetch = (path, options) => path === "/v1/parked" ? Promise.resolve(new Response("{}", { status: 503, statusText: "away" })) : before(path, options); window.back = () => { window.fetch = before; }`)
	p.until("that it is not known", sum+` === "not known now: away"`)
	p.do(`window.back()`)
	p.until("that it is known again", `/^\d+ keys/.test(`+sum+`)`)
}

// withCallersToken opens the page as somebody whose token the gateway asks for.
func withCallersToken(p tab) {
	p.run(chromedp.Navigate(value[string](p, "location.origin") + "/?caller#token=a.b.c"))
	p.until("the orders", `document.querySelectorAll(".row").length >= 3`)
	p.until("the stream", `document.getElementById("connection").textContent === "live"`)
	if got := value[string](p, "sessionStorage.token + location.hash"); got != "a.b.c" {
		p.t.Errorf("token and what is left of it in the address: %q", got)
	}
	p.do(`const before = window.fetch; window.asked = []; window.fetch = (path, options) => { window.asked.push(options?.headers?.Authorization); return before(path, options); }`)
	p.until("requests that say who asks", `window.asked.length > 2 && window.asked.every((by) => by === "Bearer a.b.c")`)
	p.do(`sessionStorage.clear()`)
}

// withNewToken opens the address with a token in a tab that has the page already,
// as somebody does who has started the demo anew.
func withNewToken(token string) func(tab) {
	return func(p tab) {
		loaded := make(chan bool, 1)
		if err := chromedp.Listen(p.ctx, func(said any) {
			if _, ok := said.(*page.EventLoadEventFired); ok {
				select {
				case loaded <- true:
				default: // a later one
				}
			}
		}); err != nil {
			p.t.Fatal(err)
		}
		p.do(`location.hash = "` + token + `"`)
		select {
		case <-loaded:
		case <-time.After(30 * time.Second):
			p.t.Fatal("the page is not loaded anew")
		}
		p.until("what an operator has", `!document.getElementById("tab-break").hidden`)
		if address := value[string](p, "location.href"); strings.Contains(address, token) {
			p.t.Errorf("the token is still in the address: %s", address)
		}
	}
}
