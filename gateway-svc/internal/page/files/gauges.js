// Gauges and their last minutes, asked for once a second while the page is in sight,
// so that who opens them sees what went before.

import { $, draw, el } from "./dom.js";
import { get } from "./api.js";
import { count, duration } from "./format.js";

const KEPT = 240; // points of a chart, one a second

const CHARTS = [
  ["backlog", "Outbox backlog, rows", count],
  ["oldest", "Oldest row of the backlog", (v) => duration(v * 1000)],
  ["relayed", "Into the log, events/s", count],
  ["lag", "Not yet applied, records", count],
  ["applied", "Applied, records/s", count],
  ["p50", "To the decision, p50", duration],
  ["p99", "To the decision, p99", duration],
  ["duplicates", "Duplicates absorbed", count],
  ["gaps", "Gaps", count, true],
  ["parked", "Parked keys", count, true],
  ["members", "Instances in the registry", count],
];

export class Gauges {
  constructor(store) {
    Object.assign(this, { store, series: Object.fromEntries(CHARTS.map(([id]) => [id, []])), before: null });
    $("charts").append(...CHARTS.map(([id, title]) => el("article", { class: "chart", id: `chart-${id}` }, el("h3", {}, title), el("p", { class: "value" }, "–"),
      draw("svg", { viewBox: "0 0 240 44", preserveAspectRatio: "none", "aria-hidden": "true" }, draw("path", { class: "spark-area" }), draw("path", { class: "spark" })))));
  }

  async watch() {
    for (;;) {
      if (!document.hidden) await this.ask();
      await new Promise((done) => setTimeout(done, 1000));
    }
  }

  async ask() {
    try {
      const [now, members] = await Promise.all([get("/v1/gauges"), get("/v1/members")]);
      this.take(now, members.members);
      table(now);
    } catch { /* the connection's own sign tells; the charts go on with the next answer */ }
  }

  take(now, members) {
    const services = [...Map.groupBy(now.gauges, (g) => g.service).values()];
    const each = (name) => now.gauges.reduce((sum, g) => sum + g[name], 0);
    const once = (name) => services.reduce((sum, of) => sum + Math.max(...of.map((g) => g[name])), 0); // every instance shows the same
    const at = Date.parse(now.at), passed = this.before ? (at - this.before.at) / 1000 : 0;
    const rate = (name) => (passed > 0 ? now.gauges.reduce((sum, g) => sum + Math.max(0, g[name] - (this.before.totals.get(g.id + name) ?? g[name])), 0) / passed : 0);
    const values = {
      backlog: once("backlog"), oldest: Math.max(0, ...now.gauges.map((g) => g.oldest_seconds)), relayed: rate("published_total"), lag: each("lag"),
      applied: rate("applied_total"), duplicates: each("duplicates_total"), gaps: each("gaps_total"), parked: once("parked_keys") + once("relay_parked_keys"),
      members: members.length, ...this.decided(),
    };
    this.before = { at, totals: new Map(now.gauges.flatMap((g) => ["published_total", "applied_total"].map((name) => [g.id + name, g[name]]))) };
    for (const [id, , write, alarm] of CHARTS) this.point(id, values[id], write, alarm);
  }

  // decided gives the quantiles of the orders decided in the last minute.
  decided() {
    const from = Date.now() - 60000;
    const ms = this.store.decisions.filter((d) => d.at > from).map((d) => d.ms).sort((a, b) => a - b);
    const of = (q) => (ms.length ? ms[Math.min(ms.length - 1, Math.ceil(q * ms.length) - 1)] : undefined);
    return { p50: of(0.5), p99: of(0.99) };
  }

  point(id, value, write, alarm) {
    const series = this.series[id], card = $(`chart-${id}`);
    series.push(value ?? 0);
    if (series.length > KEPT) series.shift();
    card.querySelector(".value").textContent = value === undefined ? "–" : write(value);
    card.classList.toggle("alarm", Boolean(alarm && value));
    const top = Math.max(...series, 1e-9), x = (i) => 240 - (series.length - 1 - i), y = (v) => 42 - (v / top) * 38;
    const line = series.map((v, i) => `${i ? "L" : "M"}${x(i)} ${y(v).toFixed(1)}`).join("");
    card.querySelector(".spark").setAttribute("d", line);
    card.querySelector(".spark-area").setAttribute("d", `${line}L240 44L${x(0)} 44z`);
  }
}

function table(now) {
  const names = [["backlog", "backlog"], ["published_total", "into the log"], ["lag", "lag"], ["applied_total", "applied"], ["duplicates_total", "duplicates"], ["faults_total", "faults"], ["parked_keys", "parked"]];
  const head = el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "instance"), ...names.map(([, title]) => el("th", { scope: "col" }, title))));
  const rows = now.gauges.map((g) => el("tr", {}, el("th", { scope: "row" }, `${g.service} ${g.id}`), ...names.map(([name]) => el("td", {}, count(g[name])))));
  const away = now.missing.map((m) => el("tr", {}, el("th", { scope: "row" }, m.service), el("td", { colspan: names.length }, m.reason)));
  $("instances").replaceChildren(head, el("tbody", {}, ...rows, ...away));
}
