// Breaking things in the demo, for who has the operator's token: what can be
// broken, what is, and what came of it.

import { $, el, put } from "./dom.js";
import { duration } from "./format.js";
import { forgetOperator, isOperator } from "./caller.js";
import { act } from "./operator.js";

const PATH = "/v1/break";

// What stands in a row of buttons: the fault and what the button says.
const OF_SERVICES = [["kill", "kill -9"], ["restart", "restart"], ["pause", "pause"], ["down", "take down"], ["second", "double"]];
const ROWS = [
  ["Kafka", [["broker", "stop"], ["broker-kill", "kill -9"]]],
  ["Postgres", [["postgres", "stop"], ["postgres-kill", "kill -9"], ["postgres-slow", "slow down"], ["clock", "move its clock"]]],
  ["card provider", [["provider", "take down"], ["provider-kill", "kill -9"], ["provider-wrong", "answer badly"]]],
  ["records", [["duplicates", "duplicate"], ["replay", "replay"], ["reorder", "reorder"], ["poison", "poison"]]],
];
const WAYS = [["partition", "part"], ["latency", "slow down"], ["answers", "lose answers"]];
const GATEWAY = "gateway-svc", GATEWAY_MOST = 10; // seconds: this page reaches the demo through it

export class BreakView {
  // quiet is called when the page's own load must rest.
  constructor(quiet) {
    Object.assign(this, { quiet, kinds: null, told: "" });
    $("heal-all").addEventListener("click", () => this.heal());
    $("chaos-start").addEventListener("click", () => this.chaos());
    $("chaos-stop").addEventListener("click", () => this.send("DELETE", "/chaos", "stop chaos"));
    if (isOperator()) this.watch();
  }

  // watch asks once a second: what is broken shall be seen on every view.
  async watch() {
    while (isOperator()) {
      if (!document.hidden) await this.ask();
      await new Promise((done) => setTimeout(done, 700));
    }
  }

  async ask() {
    try { this.show(await act("GET", `${PATH}/faults`, undefined, 3000)); } catch (err) {
      // No such route: no demo. Not allowed: the demo was started anew, with a token of its own.
      if (err.status === 403) forgetOperator();
      if (err.status === 403 || err.status === 404) { $("tab-break").hidden = true; $("broken").hidden = true; }
      if (err.status === 404) { this.ask = async () => {}; }
    }
  }

  show(state) {
    if (!this.kinds) this.offer(state.kinds);
    this.standing(state.standing, state.chaos?.running);
    this.notes(state.notes);
    this.run(state.chaos);
  }

  offer(kinds) {
    this.kinds = new Map(kinds.map((k) => [k.name, k]));
    const missing = (kind) => this.kinds.get(kind).missing;
    const button = (kind, text, of = "") => el("button", { type: "button", "data-break": [kind, of].filter(Boolean).join(" "), title: this.kinds.get(kind).breaks, disabled: Boolean(missing(kind)), onclick: () => this.cause({ kind, service: of }) }, text);
    const row = (name, buttons) => el("div", { class: "break-row", role: "group", "aria-label": name }, el("b", {}, name), ...buttons);
    put($("break-services"), ...this.kinds.get("kill").services.map((name) => row(name, OF_SERVICES.filter(([kind]) => this.kinds.get(kind).services.includes(name)).map(([kind, text]) => button(kind, text, name)))));
    put($("break-servers"), ...ROWS.map(([name, list]) => row(name, [...list.map(([kind, text]) => button(kind, text)), ...list.filter(([kind]) => missing(kind)).map(([kind, text]) => el("span", { class: "sub" }, `${text}: ${missing(kind)}`))])));
    const way = this.kinds.get("partition");
    put($("way-service"), ...way.services.map((name) => new Option(name, name)));
    put($("way-server"), ...way.servers.map((name) => new Option(name === "broker" ? "Kafka" : "Postgres", name)));
    put($("way-buttons"), ...WAYS.map(([kind, text]) => el("button", { type: "button", "data-break": kind, title: this.kinds.get(kind).breaks, onclick: () => this.cause({ kind, service: $("way-service").value, server: $("way-server").value }) }, text)));
    $("tab-break").hidden = false;
  }

  cause(fault) {
    const kind = this.kinds.get(fault.kind);
    let seconds = kind.lasts ? Number($("break-for").value) : 0;
    if (fault.service === GATEWAY && kind.lasts) seconds = Math.min(seconds || GATEWAY_MOST, GATEWAY_MOST);
    const name = [fault.kind, fault.service, fault.server].filter(Boolean).join(" ");
    say(`${name}: ${kind.breaks}. What one should see: ${kind.expect}.`);
    this.send("POST", "/faults", name, { ...fault, seed: Math.floor(Math.random() * 2 ** 32), for_ns: seconds * 1e9, detached: true });
  }

  async send(method, path, name, body) {
    try { await act(method, PATH + path, body); } catch (err) {
      // A gateway that was killed or paused cannot answer; what came of it is told by the notes.
      if (!body?.service?.startsWith(GATEWAY)) say(`${name}: ${err.message}`, "cancelled");
    }
    await this.ask();
  }

  // heal can be asked for again when it is answered: it waits for servers to start.
  async heal() {
    $("heal-all").disabled = true;
    await this.send("DELETE", "/faults", "heal");
    $("heal-all").disabled = false;
  }

  chaos() {
    this.quiet();
    say("A minute of chaos, under a load of its own; the load of this page rests meanwhile.");
    this.send("POST", "/chaos", "chaos", { seed: Number($("seed").value) || Math.floor(Math.random() * 1e6) });
  }

  standing(list, chaos) {
    const what = list.map((b) => b.name + (b.until ? ` (${duration(Math.max(0, Date.parse(b.until) - Date.now()))} left)` : "")).join(", ");
    $("broken").hidden = !list.length && !chaos;
    const text = [chaos && "chaos is under way", what && `broken now: ${what}`].filter(Boolean).join("; ");
    if ($("broken-text").textContent !== text) $("broken-text").textContent = $("broken-text").title = text;
    $("heal-all").hidden = !list.length;
    const names = list.map((b) => b.name);
    for (const b of document.querySelectorAll("[data-break]")) b.classList.toggle("on", names.includes(b.dataset.break));
    $("chaos-start").disabled = chaos || list.length > 0;
  }

  notes(list) {
    const news = JSON.stringify(list);
    if (news === this.told) return;
    this.told = news;
    if (!list.length) put($("break-notes"), el("li", { class: "sub" }, "Nothing yet. A run of chaos tells of itself."));
    else put($("break-notes"), ...list.map((n) => el("li", { class: n.error ? "late" : "" }, el("time", {}, new Date(n.at).toLocaleTimeString()), ` ${n.name}: ${n.error || n.text || "begun"}`)));
  }

  run(chaos) {
    $("chaos").hidden = !chaos;
    if (!chaos?.began) return;
    $("chaos-stop").hidden = !chaos.running;
    const v = chaos.verdict, verdict = chaos.running ? `under way, seed ${chaos.seed}` : chaos.error ? `no verdict: ${chaos.error}` : v.ok ? `ok under seed ${chaos.seed}` : `FAILED under seed ${chaos.seed}: ${v.failures.join("; ")}`;
    $("chaos-verdict").textContent = verdict;
    $("chaos-verdict").className = `answer ${chaos.running ? "placed" : v?.ok ? "confirmed" : "cancelled"}`;
    const lines = [...chaos.lines, ...(v?.summary || [])].join("\n");
    if ($("chaos-lines").textContent === lines) return;
    $("chaos-lines").textContent = lines;
    $("chaos-lines").scrollTop = $("chaos-lines").scrollHeight;
  }
}

function say(text, state = "") {
  $("break-answer").textContent = text;
  $("break-answer").className = `answer ${state}`;
}

