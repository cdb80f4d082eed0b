// The saga as the services' tables have it, and how each event is shown.

import { get } from "./api.js";

export class Saga {
  constructor(document) {
    this.events = document.events;
    this.services = document.services;
    this.byKind = new Map(this.events.map((e) => [e.kind, e]));
    this.undone = new Set(this.events.map((e) => e.undoes).filter(Boolean));
  }

  static async load() { return new Saga(await get(new URL("saga.json", import.meta.url))); }

  // readers are the services that react to a kind.
  readers(kind) { return this.services.filter((s) => s.reactions.some((r) => r.on === kind)).map((s) => s.name); }

  // origin is what a kind starts from when no event caused it.
  origin(kind, reason) {
    const all = this.services.flatMap((s) => s.reactions).filter((r) => r.origin && r.emits.includes(kind)).map((r) => r.origin);
    return all.length === 1 ? all[0] : all.find((o) => o.includes(reason === "customer" ? "cancel" : reason));
  }

  // tone is the class that colours a kind: step, good, failure or comp.
  tone(kind) {
    const e = this.byKind.get(kind);
    if (!e) return "step";
    if (e.failure) return "failure";
    if (e.undoes) return "comp";
    return kind.startsWith("order.confirmed") ? "good" : "step";
  }
}
