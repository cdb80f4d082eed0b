// Keys that wait for somebody, by cause: what is inside, and to let them go.

import { $, el, put, reveal } from "./dom.js";
import { get } from "./api.js";
import { count, service, silent, words } from "./format.js";
import { isOperator } from "./caller.js";
import { act } from "./operator.js";

const CAUSES = {
  fault: "a record that its handler cannot do",
  gap: "a record whose predecessor has not come; it goes on by itself when that comes",
  undecodable: "bytes that are no event",
  foreign: "an event that does not belong on its topic",
  unknown_version: "a later version of an event; it goes on by itself after the upgrade",
  retry: "tried again by itself; redrive does it at once",
  follows: "let go already; it goes on by itself",
  refused: "an event that Kafka does not take",
};
const GO_ON = ["gap", "follows"]; // redrive is no help there

export class ParkedView {
  constructor() {
    Object.assign(this, { told: "", chosen: null, groups: [] });
    $("redrive-all").addEventListener("click", (e) => this.redrive(e.target, {}, "all keys"));
    $("parked-form").addEventListener("submit", (e) => e.preventDefault());
  }

  // watch asks every other second until the panel is out of sight.
  async watch() {
    $("parked-form").hidden = !isOperator();
    $("parked-hint").hidden = isOperator();
    if (this.asking) return;
    this.asking = true;
    while (!$("parked").hidden) {
      if (!document.hidden) await this.ask();
      await new Promise((done) => setTimeout(done, 1000));
    }
    this.asking = false;
  }

  async ask() {
    try {
      const now = await get("/v1/parked"), news = JSON.stringify(now);
      if (news === this.told) return;
      this.told = news;
      this.groups = now.groups;
      this.show(now);
      if (this.chosen) this.look();
    } catch (err) {
      this.told = ""; // the next answer is news
      $("parked-sum").textContent = `not known now: ${err.message}`;
    }
  }

  show(now) {
    const all = now.groups.reduce((sum, g) => sum + g.count, 0), focused = document.activeElement?.dataset?.parked;
    $("parked-sum").textContent = (all ? `${keys(all)}` : "nothing waits") + (now.missing.length ? `; ${silent(now.missing)}` : "");
    $("redrive-all").disabled = !now.groups.some((g) => !GO_ON.includes(g.cause));
    $("parked-groups").replaceChildren(...now.groups.map((g) => this.group(g)));
    if (focused) $("parked-groups").querySelector(`[data-parked="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    if (!this.chosen) $("parked-detail").replaceChildren(el("p", { class: "sub" }, all ? "Choose a key to look inside: headers, payload, reason and what was done before." : "A record that cannot be handled waits here with what follows it on its key, and every other order goes on."));
  }

  group(g) {
    return el("section", { class: "cause", "data-cause": g.cause },
      el("div", { class: "cause-head" }, el("h3", {}, `${words(g.cause)}: ${keys(g.count)}`),
        isOperator() && !GO_ON.includes(g.cause) ? el("button", { type: "button", "data-parked": `group ${g.cause}`, onclick: (e) => this.redrive(e.target, { cause: g.cause }, `all of ${words(g.cause)}`) }, `Redrive ${g.count === 1 ? "it" : `these ${count(g.count)}`}`) : null),
      el("p", { class: "sub" }, `${CAUSES[g.cause] || ""}; the oldest since ${new Date(g.oldest).toLocaleString()}`),
      el("ul", {}, ...g.keys.map((k) => this.line(k))),
      g.count > g.keys.length ? el("p", { class: "sub" }, `and ${count(g.count - g.keys.length)} more`) : null);
  }

  line(k) {
    const id = idOf(k), at = k.sequence ? `#${k.sequence} ${k.kind}` : k.kind || "no event";
    return el("li", {}, el("button", { type: "button", class: "key-line", "data-parked": id, "aria-pressed": String(this.chosen && idOf(this.chosen) === id), onclick: () => this.choose(k) },
      el("b", {}, service(k.service)), el("code", {}, k.key ? middle(k.key) : "(no key)"), el("span", {}, at), el("span", { class: "why" }, k.reason)));
  }

  choose(k) {
    this.chosen = k;
    for (const b of $("parked-groups").querySelectorAll(".key-line")) b.setAttribute("aria-pressed", String(b.dataset.parked === idOf(k)));
    this.look().then(() => reveal($("parked-detail")));
  }

  async look() {
    const k = this.chosen;
    try {
      const inside = await get(`/v1/parked/${k.service}/records?key=${encodeURIComponent(k.key)}`);
      if (k === this.chosen) this.inside(k, inside);
    } catch (err) { if (k === this.chosen) $("parked-detail").replaceChildren(el("p", { class: "late" }, `Not to be seen now: ${err.message}`)); }
  }

  inside(k, { records, moves }) {
    const waits = this.groups.flatMap((g) => g.keys).find((other) => idOf(other) === idOf(k));
    put($("parked-detail"),
      el("h3", {}, k.key || "(no key)"),
      el("p", { class: "sub" }, waits ? `waits in ${k.service} after ${k.last_applied ? `#${k.last_applied}` : "nothing"}; published by ${k.source || "itself"}` : `no longer waits in ${k.service}`),
      waits && isOperator() && !GO_ON.includes(waits.cause) ? el("button", { type: "button", id: "redrive-one", class: "primary", onclick: (e) => this.redrive(e.target, { service: k.service, cause: waits.cause, source: k.source, key: k.key }, "this key") }, "Redrive this key") : null,
      ...records.map(record),
      moves.length ? el("h3", {}, "What was done before") : null,
      ...moves.map((m) => el("p", { class: "move" }, `${m.at.slice(0, 19).replace("T", " ")} ${m.action} of ${m.records} by ${m.who}: ${m.why}`)));
  }

  async redrive(button, chosen, what) {
    const why = $("why").value.trim();
    if (!why) { say("Say why first: it goes into the audit trail.", "cancelled"); $("why").focus(); return; }
    button.disabled = true;
    say(`redriving ${what} …`);
    try {
      const m = await act("POST", "/v1/parked/redrive", { ...chosen, why });
      const more = [m.left && `${m.left} left alone`, m.rest && `${m.rest} for next time`, m.missing.length && `${m.missing.map((s) => s.service).join(", ")} did not answer`];
      say([`let go: ${keys(m.keys)}`, ...more].filter(Boolean).join("; "), m.missing.length ? "cancelled" : "confirmed");
    } catch (err) { say(`not redriven: ${err.message}`, "cancelled"); }
    button.disabled = false;
    this.ask();
  }
}

function record(r) {
  return el("article", { class: "record" },
    el("h4", {}, r.sequence ? `#${r.sequence} ${r.kind}` : r.kind || "no event"),
    el("dl", {}, ...[["cause", words(r.cause)], ["reason", r.reason], ["attempts", r.attempts], ["where", r.offset < 0 ? `${r.topic}, not in the log` : `${r.topic}/${r.partition}@${r.offset}`], ["since", r.since.slice(0, 23).replace("T", " ")], ...r.headers.map((h) => [h.key, h.value])]
      .flatMap(([name, value]) => {
        const wide = { class: String(value).length > 24 ? "long" : null };
        return [el("dt", wide, name), el("dd", wide, String(value))];
      })),
    el("pre", {}, pretty(r.payload)));
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

function say(text, state = "") {
  $("parked-answer").textContent = text;
  $("parked-answer").className = `answer ${state}`;
}

// middle leaves out the middle of a long key: its ends tell it from others.
const middle = (key) => (key.length > 22 ? `${key.slice(0, 11)}…${key.slice(-8)}` : key);
const keys = (n) => `${count(n)} ${n === 1 ? "key" : "keys"}`;
const idOf = (k) => `${k.service} ${k.source} ${k.key}`;
