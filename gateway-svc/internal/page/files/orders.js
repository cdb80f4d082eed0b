// The list of orders. Only the rows in sight are elements.

import { $, el, soon } from "./dom.js";
import { count, duration, money, short, words } from "./format.js";

const ROW = 52, MARGIN = 6; // pixels, rows

export class Orders {
  constructor(store, choose) {
    Object.assign(this, { store, choose, filter: "all", chosen: "", found: [] });
    this.list = $("list");
    this.rows = $("rows");
    this.refresh = soon(() => this.find(), 120);
    store.onChange(this.refresh);
    this.list.addEventListener("scroll", () => requestAnimationFrame(() => this.show()));
    this.list.addEventListener("keydown", (e) => this.key(e));
    $("search").addEventListener("input", this.refresh);
    for (const b of document.querySelectorAll("[data-filter]")) b.addEventListener("click", () => this.pick(b));
    new ResizeObserver(() => this.show()).observe(this.list);
  }

  pick(button) {
    this.filter = button.dataset.filter;
    for (const b of document.querySelectorAll("[data-filter]")) b.setAttribute("aria-pressed", String(b === button));
    this.list.scrollTop = 0;
    this.find();
  }

  find() {
    const before = this.found[0], top = this.list.scrollTop;
    this.found = this.store.select(this.filter, $("search").value);
    // New rows come in at the top; who has scrolled down keeps the sight.
    const added = top > 0 && before ? this.found.indexOf(before) : 0;
    this.rows.style.height = `${this.found.length * ROW}px`;
    if (added > 0) this.list.scrollTop = top + added * ROW;
    const all = this.store.orders.size;
    $("count").textContent = this.found.length === all ? count(all) : `${count(this.found.length)} of ${count(all)}`;
    this.show();
  }

  show() {
    if (!this.found.length) {
      this.rows.replaceChildren(el("p", { class: "empty" }, this.store.orders.size ? "No order fits." : "No orders yet."));
      return;
    }
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW) - MARGIN);
    const last = Math.min(this.found.length, Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW) + MARGIN);
    this.rows.replaceChildren(...this.found.slice(first, last).map((o, i) => this.row(o, first + i)));
    const active = this.found.slice(first, last).some((o) => o.id === this.chosen);
    if (active) this.list.setAttribute("aria-activedescendant", `order-${this.chosen}`);
    else this.list.removeAttribute("aria-activedescendant");
  }

  row(o, i) {
    const what = o.items?.map((item) => `${item.quantity} × ${item.sku}`).join(", ");
    const row = el("div", {
      class: `row ${o.state}`, id: `order-${o.id}`, role: "option", "aria-selected": String(o.id === this.chosen),
      "aria-setsize": this.found.length, "aria-posinset": i + 1, onclick: () => this.choose(o.id, true),
    },
    el("span", { class: "what" }, el("b", {}, short(o.id)), what || ""),
    el("span", { class: "state" }, o.state === "placed" ? "under way" : o.state),
    el("span", { class: "how" }, ...o.steps.map((kind) => el("i", { class: `dot ${this.store.saga.tone(kind)}`, title: kind })),
      ` ${[o.customer, o.total && money(o.total.amount, o.total.currency), words(o.reason)].filter(Boolean).join(" · ")}`),
    el("span", { class: "ms" }, o.decidedAt && o.placedAt ? duration(o.decidedAt - o.placedAt) : ""));
    row.style.top = `${i * ROW}px`;
    return row;
  }

  mark(id) { this.chosen = id; this.show(); }

  key(e) {
    const page = Math.max(1, Math.floor(this.list.clientHeight / ROW) - 1);
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[e.key];
    if (by === undefined || !this.found.length) return;
    e.preventDefault();
    const at = this.found.findIndex((o) => o.id === this.chosen);
    const next = Math.min(this.found.length - 1, Math.max(0, at < 0 ? 0 : at + by));
    const y = next * ROW;
    if (y < this.list.scrollTop) this.list.scrollTop = y;
    if (y + ROW > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = y + ROW - this.list.clientHeight;
    this.choose(this.found[next].id);
  }
}
