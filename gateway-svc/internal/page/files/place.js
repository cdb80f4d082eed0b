// Placing orders: one, a hundred, or at a constant rate.

import { $ } from "./dom.js";
import { get, place } from "./api.js";
import { money, short, words } from "./format.js";

const AT_ONCE = 24; // requests of the load under way at most; what is due beyond is left out

export class Placing {
  constructor(store, placed) {
    Object.assign(this, { store, placed, mine: "", products: [], busy: 0, left: 0, rate: 0 });
    $("one").addEventListener("click", (e) => this.one(e.target, this.any("cust-01")));
    $("declined").addEventListener("click", (e) => this.one(e.target, this.any("cust-20")));
    $("toomuch").addEventListener("click", (e) => this.one(e.target, this.order("cust-02", this.last(), 1000)));
    $("hundred").addEventListener("click", (e) => this.hundred(e.target));
    $("load").addEventListener("input", (e) => this.load(Number(e.target.value)));
    $("form").addEventListener("submit", (e) => {
      e.preventDefault();
      this.one(e.submitter, this.order($("customer").value, $("sku").value, Number($("quantity").value)));
    });
    store.onChange(() => this.tell());
    this.offer();
  }

  order(customer, sku, quantity) { return { customer_id: customer, items: [{ sku, quantity }] }; }
  last() { return this.products.at(-1)?.sku || "kettle"; }

  // any is an order that will be confirmed unless the wallet is empty.
  any(customer) {
    const there = this.products.filter((p) => !p.stock || p.stock.available > 50);
    const from = there.length ? there : this.products;
    return this.order(customer, from[Math.floor(Math.random() * from.length)]?.sku || "tea-green", 1);
  }

  // mixed is an order of the load: few of them fail.
  mixed() {
    const n = Math.random() < 0.04 ? 20 : 1 + Math.floor(Math.random() * 19);
    return this.any(`cust-${String(n).padStart(2, "0")}`);
  }

  // one places an order and says what becomes of it, which the stream tells.
  async one(button, order) {
    button.disabled = true;
    this.lacking = false; // what is said now is about the order
    say("placing …");
    this.mine = "";
    try {
      this.mine = await place(order);
      this.placed(this.mine);
      this.tell();
    } catch (err) { say(`${err.unknown ? "whether it is placed is not known" : "not placed"}: ${err.message}`, "cancelled"); }
    button.disabled = false;
    button.focus();
  }

  tell() {
    const o = this.store.orders.get(this.mine);
    if (!this.mine || !o) return;
    if (o.state === "placed") say(`${short(o.id)} is under way`, "placed");
    else { say(`${short(o.id)} ${o.state}${o.reason ? `: ${words(o.reason)}` : ""}`, o.state); this.mine = ""; }
  }

  async hundred(button) {
    button.disabled = true;
    const tally = { ok: 0, failed: 0, unknown: 0 };
    let rest = 100;
    const worker = async () => { while (rest-- > 0) await this.quietly(tally); };
    await Promise.all(Array.from({ length: 8 }, worker));
    say(`100 orders sent: ${tally.ok} accepted${tally.failed ? `, ${tally.failed} not` : ""}${tally.unknown ? `, ${tally.unknown} not known` : ""}`, tally.ok === 100 ? "confirmed" : "cancelled");
    button.disabled = false;
  }

  async quietly(tally) {
    try { await place(this.mixed()); tally.ok++; } catch (err) { tally[err.unknown ? "unknown" : "failed"]++; }
  }

  // load keeps a schedule: what is due is sent, late or not, and what cannot be
  // sent because too much is under way is counted.
  load(rate) {
    this.rate = rate;
    this.left = 0;
    clearInterval(this.timer);
    $("load-value").textContent = rate ? `${rate} orders/s` : "off";
    if (!rate) return;
    const begin = performance.now();
    let sent = 0;
    this.timer = setInterval(() => {
      for (const due = Math.floor((performance.now() - begin) / 1000 * rate); sent < due; sent++) this.send();
      $("load-value").textContent = `${rate} orders/s${this.left ? `, ${this.left} left out` : ""}`;
    }, 50);
  }

  rest() {
    $("load").value = 0;
    this.load(0);
  }

  async send() {
    if (this.busy >= AT_ONCE) { this.left++; return; }
    this.busy++;
    await this.quietly({});
    this.busy--;
  }

  async offer() {
    try {
      this.products = (await get("/v1/products")).products;
      const chosen = $("sku").value;
      $("sku").replaceChildren(...this.products.map((p) => new Option(
        `${p.name}, ${money(p.price.amount, p.price.currency)}${p.stock ? ` (${p.stock.available} left)` : ""}`, p.sku, false, p.sku === chosen)));
      if (this.lacking) say("");
      this.lacking = false;
    } catch (err) {
      this.lacking = true;
      say(`the products cannot be shown: ${err.message}`, "cancelled");
    }
    setTimeout(() => this.offer(), document.hidden ? 30000 : 8000);
  }
}

function say(text, state = "") {
  $("answer").textContent = text;
  $("answer").className = `answer ${state}`;
}
