// The story of the chosen order: loaded, kept up to date, stepped through.

import { $, el, soon } from "./dom.js";
import { get } from "./api.js";
import { detail } from "./detail.js";
import { kindName, money, service, words } from "./format.js";
import { momentsOf } from "./moments.js";
import { sequence } from "./sequence.js";
import { stateCards } from "./states.js";

const AWAY = 2000; // milliseconds before a story that did not come is asked for again
const SHORTEST = 140, LONGEST = 1600, WHOLE = 9000; // milliseconds: between two moments of slow motion, and all of it

export class StoryView {
  constructor(saga, store) {
    Object.assign(this, { saga, store, id: "", story: null, moments: [], n: Infinity, picked: "" });
    this.reload = soon(() => this.load(), 80);
    const on = (id, f) => $(id).addEventListener("click", f);
    on("first", () => this.to(1)); on("back", () => this.to(this.at() - 1)); on("forward", () => this.to(this.at() + 1));
    on("last", () => this.to(Infinity)); on("play", () => (this.timer ? this.stop() : this.play()));
    $("diagram").addEventListener("keydown", (e) => this.key(e));
    new ResizeObserver(soon(() => this.show(), 60)).observe($("diagram"));
    this.show();
  }

  // choose shows another order.
  choose(id) {
    if (id === this.id && this.story) return;
    this.stop();
    Object.assign(this, { id, story: null, moments: [], n: Infinity, picked: "" });
    this.load();
  }

  heard(event) { if (event?.subject === this.id) this.reload(); }

  async load() {
    const id = this.id;
    try {
      const [story, full] = await Promise.all([get(`/v1/orders/${encodeURIComponent(id)}/story`), get(`/v1/orders/${encodeURIComponent(id)}?view=full`)]);
      if (id !== this.id) return;
      full.webhooks ??= []; // a gateway from before does not tell of them
      Object.assign(this, { story, full, moments: momentsOf(story, this.saga) });
      this.show();
      this.again(story);
    } catch (err) {
      if (id !== this.id) return;
      $("story-sub").textContent = `The story cannot be told now: ${err.message}`;
      this.later(AWAY);
    }
  }

  later(pause) {
    clearTimeout(this.look);
    this.look = setTimeout(() => this.load(), document.hidden ? 5000 : pause);
  }

  // again looks once more while something of the order is still to come.
  again(story) {
    clearTimeout(this.look);
    const open = story.missing.length > 0 || story.parked.length > 0 || this.full.order?.state === "placed" ||
      [...this.full.notifications, ...this.full.webhooks].some((m) => m.state !== "sent" && !m.refused) ||
      story.events.some((e) => e.offset == null || this.saga.readers(e.kind).some((r) => !story.applied.some((a) => a.service === r && a.source === `/${e.service}` && a.last_sequence >= e.sequence)));
    const begun = story.events.length ? Date.parse(story.events[0].created_at) : Date.now();
    if (open && Date.now() - begun < 600000) this.later(700);
  }

  at() { return Math.min(this.n, this.moments.length); }

  to(n) {
    this.stop();
    this.n = n >= this.moments.length ? Infinity : Math.max(1, n);
    this.pickLast();
    this.show();
  }

  pickLast() { this.picked = this.n === Infinity ? "" : this.moments[this.at() - 1]?.event.id || ""; }

  play() {
    if (this.at() >= this.moments.length) this.n = 0;
    this.tick();
  }

  tick() {
    if (this.at() >= this.moments.length) { this.to(Infinity); return; }
    const here = this.moments[this.at()], next = this.moments[this.at() + 1];
    this.n = this.at() + 1;
    this.pickLast();
    this.timer = setTimeout(() => this.tick(), next ? this.pause(next.at - here.at) : SHORTEST);
    this.show();
  }

  // pause stretches the time between two moments, within what eyes like.
  pause(ms) {
    const stretched = Math.min(LONGEST, ms * (Number($("slow").value) || 1));
    return Math.max(SHORTEST, Math.min(stretched, WHOLE / this.moments.length));
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.face();
  }

  // face shows whether the button plays or pauses.
  face() {
    $("play").querySelector("path").setAttribute("d", this.timer ? "M4 3h3v10H4zM9 3h3v10H9z" : "M4 2.5v11L13 8z");
    $("play").setAttribute("aria-label", this.timer ? "Pause" : "Play in slow motion");
  }

  key(e) {
    const act = {
      ArrowRight: () => this.to(this.at() + 1), ArrowLeft: () => this.to(this.at() - 1), Home: () => this.to(1), End: () => this.to(Infinity),
      " ": () => (this.timer ? this.stop() : this.play()),
    }[e.key];
    if (!act) return;
    e.preventDefault();
    act();
  }

  // pick stays with the event that somebody chose; until then the last one is shown.
  pick(e) {
    if (!this.story) return; // the drawing in sight is still that of the order before
    this.picked = e.id;
    this.inspect(e);
  }

  inspect(e) {
    for (const g of $("diagram").querySelectorAll(".event")) {
      g.classList.toggle("chosen", g.dataset.event === e.id);
      g.setAttribute("aria-pressed", String(g.dataset.event === e.id));
    }
    $("detail").replaceChildren(...detail(e, this.story, this.saga, this.store.copies(e)));
  }

  show() {
    this.controls();
    if (!this.story) {
      if (!this.id) $("detail").replaceChildren(el("p", { class: "sub" }, "Here is what lies behind an event: headers, payload, cause and trace."));
      return;
    }
    this.title();
    const focused = document.activeElement?.dataset?.event;
    $("diagram").replaceChildren(sequence({
      story: this.story, moments: this.moments, n: this.at(), saga: this.saga, width: $("diagram").clientWidth, chosen: this.picked,
      copies: (e) => this.store.copies(e),
      fresh: this.timer ? this.moments[this.at() - 1] : null, pick: (e) => this.pick(e),
    }));
    if (focused) $("diagram").querySelector(`[data-event="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    const event = this.story.events.find((e) => e.id === this.picked) || this.story.events.at(-1);
    if (event) this.inspect(event);
    $("states").replaceChildren(...stateCards(this.full, this.story, this.saga));
  }

  controls() {
    const all = this.moments.length, n = this.at();
    $("moment").textContent = all ? `${n} / ${all}` : "";
    for (const [id, off] of [["first", n <= 1], ["back", n <= 1], ["forward", n >= all], ["last", n >= all], ["play", !all]]) $(id).disabled = off;
    this.face();
  }

  title() {
    const o = this.full.order, m = this.moments[this.at() - 1];
    $("story-title").replaceChildren(el("code", {}, this.id), " ", o ? el("span", { class: `state ${o.state}` }, o.state === "placed" ? "under way" : o.state) : "");
    const about = o ? [o.customer_id, money(o.total.amount, o.total.currency), words(o.reason)] : [];
    if (this.n !== Infinity && m) about.push(`now: ${kindName(m.event.kind)} ${m.what}${m.reader ? ` by ${service(m.reader)}` : ""}`);
    const kept = Date.parse(this.story.kept_since); // NaN: all events are there
    if (o && Date.parse(o.placed_at) < kept) about.push(`events from before ${new Date(kept).toLocaleString()} are kept no longer`);
    if (this.story.missing.length) about.push(`missing: ${this.story.missing.map((s) => s.service).join(", ")}`);
    $("story-sub").textContent = about.filter(Boolean).join(" · ");
  }
}
