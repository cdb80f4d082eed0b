// Money and stock, counted every 0.8 s while the page is in sight: with a count that
// gets no answer for 0.7 s, a service that is gone is seen within 1.5 s.

import { $, el } from "./dom.js";
import { get } from "./api.js";
import { count, money, short, silent } from "./format.js";

const PACE = 800; // ms, from one count's beginning to the next

export function watchConservation(choose) {
  let checks = 0;
  const check = async () => {
    const begin = performance.now();
    if (!document.hidden) {
      try { show(await get("/v1/conservation"), ++checks, choose); } catch (err) { unknown(err.message); }
    }
    setTimeout(check, Math.max(100, PACE - (performance.now() - begin)));
  };
  check();
}

let told = ""; // what the verdict says; said again only when it changes

function tell(c, choose) {
  if (c.differences.length) $("verdict").replaceChildren(...c.differences.slice(0, 3).flatMap((d) => naming(d, choose)));
  else if (c.missing.length) $("verdict").textContent = `${silent(c.missing)}; the rest adds up`;
  else $("verdict").textContent = "Money and stock add up";
}

function unknown(reason) {
  told = "";
  $("conservation").className = "conservation";
  $("verdict").textContent = `not counted now: ${reason}`;
}

function show(c, checks, choose) {
  const bar = $("conservation"), differs = c.differences.length > 0;
  bar.className = `conservation ${differs ? "differs" : c.missing.length ? "" : "balanced"}`;
  $("checks").textContent = `${count(checks)} checks`;
  const news = JSON.stringify([c.differences, c.missing]);
  if (news !== told) tell(c, choose);
  told = news;
  const sums = new Map(c.money.map((m) => [m.currency, sum("Money", [
    [money(m.paid_in, m.currency), "paid in ="], [money(m.available, m.currency), "with customers +"], [money(m.in_flight, m.currency), "in flight +", m.in_flight], [money(m.earned, m.currency), "earned"]])]));
  if (c.stock.length) {
    const of = (name) => c.stock.reduce((total, s) => total + s[name], 0);
    sums.set("stock", sum("Stock", [[count(of("received")), "pieces ="], [count(of("available")), "available +"], [count(of("in_flight")), "in flight +", of("in_flight")], [count(of("sold")), "sold"]]));
  }
  keep(sums);
}

const kept = new Map(); // each sum as it was counted last

// keep shows what a count tells, and the rest as it was before: were it left out, all
// that is below would move under the hand that is about to click.
function keep(sums) {
  for (const [of, now] of sums) kept.set(of, now);
  for (const [of, last] of kept) {
    last.className = sums.has(of) ? "" : "stale";
    last.title = sums.has(of) ? "" : "as it was counted last";
  }
  $("sums").replaceChildren(...kept.values());
}

function naming(d, choose) {
  return [`${d.of}: ${d.reason} `, ...d.orders.slice(0, 4).map((id) => el("button", { type: "button", onclick: () => choose(id) }, short(id)))];
}

const sum = (name, parts) => el("div", {}, el("dt", {}, name),
  ...parts.map(([value, what, flight]) => el("dd", { class: flight === undefined ? "" : flight ? "flight some" : "flight" }, el("b", {}, value), ` ${what}`)));
