// What this tab knows of orders: at most LIMIT, the newest; the oldest go.

const LIMIT = 10000, EARLY = 1000, CAUSES = 20000, DECISIONS = 5000;

export class Store {
  constructor(saga) {
    this.saga = saga;
    this.orders = new Map(); // by id, the oldest first
    this.early = new Map(); // orders of which only later events were heard: what was ordered is not known yet
    this.kinds = new Map(); // of the last events, by id, to find causes
    this.places = new Map(); // offsets at which the last events came, by id: the second is a copy
    this.seen = new Map(); // how often: "kind", and "cause>kind"
    this.decisions = []; // {at, ms} of the last orders that were decided, for p50 and p99
    this.listeners = new Set();
  }

  onChange(f) { this.listeners.add(f); }
  changed(event, copy = false) { for (const f of this.listeners) f(event, copy); }

  // list takes orders as GET /v1/orders has them, the newest first.
  list(orders) {
    for (const o of orders.toReversed()) this.put(fromList(o, this.known(o.order_id)));
    // The stream may have brought newer ones before.
    this.orders = new Map([...this.orders].sort(([, a], [, b]) => a.placedAt - b.placedAt));
    this.changed();
  }

  known(id) { return this.orders.get(id) || this.early.get(id); }

  // event takes an event of the stream. One whose data are of another order than
  // its key is of no order; it is parked by whoever should act on it.
  event(e) {
    if (e.data?.order_id !== e.subject) return;
    if (this.isCopy(e)) { this.changed(e, true); return; }
    this.note(e);
    const o = this.known(e.subject) || { id: e.subject, state: "placed", steps: [], items: [] };
    if (o.steps.length < 12 && !o.steps.includes(e.type)) o.steps.push(e.type);
    const at = Date.parse(e.time);
    if (e.type === "order.placed.v1") Object.assign(o, { customer: e.data.customer_id, total: e.data.total, items: e.data.items, placedAt: at });
    if (e.type === "order.confirmed.v1") this.decide(o, "confirmed", at);
    if (e.type === "order.cancelled.v1") { o.reason = e.data.reason; this.decide(o, "cancelled", at); }
    this.put(o);
    this.changed(e);
  }

  // isCopy tells whether the event came before: it lies in the log twice, and each
  // reader drops the second by its number.
  isCopy(e) {
    const offsets = this.places.get(e.id);
    if (offsets) return Boolean(offsets.add(e.offset));
    this.places.set(e.id, new Set([e.offset]));
    trim(this.places, CAUSES);
    return false;
  }

  // copies counts how often an event came at another place than its own since this
  // tab looks.
  copies(e) { return e.offset == null ? 0 : [...(this.places.get(e.id) || [])].filter((o) => o !== e.offset).length; }

  decide(o, state, at) {
    o.state = state;
    if (o.decidedAt) return;
    o.decidedAt = at;
    if (!o.placedAt) return;
    this.decisions.push({ at: Date.now(), ms: at - o.placedAt });
    if (this.decisions.length > DECISIONS) this.decisions.splice(0, DECISIONS / 2);
  }

  note(e) {
    bump(this.seen, e.type);
    const cause = e.causationid ? this.kinds.get(e.causationid) : this.saga.origin(e.type, e.data?.reason);
    if (cause) bump(this.seen, `${cause}>${e.type}`);
    this.kinds.set(e.id, e.type);
    trim(this.kinds, CAUSES);
  }

  put(o) {
    o.text = `${o.id} ${o.customer || ""} ${o.reason || ""} ${(o.items || []).map((i) => i.sku).join(" ")}`.toLowerCase();
    if (o.placedAt) this.early.delete(o.id);
    const [there, most] = o.placedAt ? [this.orders, LIMIT] : [this.early, EARLY];
    there.set(o.id, o);
    trim(there, most);
  }

  // select returns the orders that fit, the newest first.
  select(state, text) {
    const want = text.trim().toLowerCase(), found = [];
    for (const o of this.orders.values()) if ((state === "all" || o.state === state) && (!want || o.text.includes(want))) found.push(o);
    return found.reverse();
  }
}

// trim drops the oldest tenth of what is too much. One at a time would be slow: a
// map is walked from its beginning, past all that was dropped lately.
function trim(map, most) {
  if (map.size <= most) return;
  for (const key of map.keys()) {
    if (map.size <= most * 0.9) return;
    map.delete(key);
  }
}

const bump = (map, key) => map.set(key, (map.get(key) || 0) + 1);

function fromList(o, known) {
  const steps = ["order.placed.v1"], { reason, effects } = o;
  if (reason === "out_of_stock") steps.push("inventory.rejected.v1");
  else if (o.state === "confirmed" || effects.released) steps.push("inventory.reserved.v1");
  if (reason === "payment_declined") steps.push("payment.declined.v1");
  if (o.state === "confirmed" || effects.voided) steps.push("payment.authorized.v1");
  if (o.state !== "placed") steps.push(`order.${o.state}.v1`);
  const done = { captured: "payment.captured.v1", shipped: "inventory.shipped.v1", voided: "payment.voided.v1", released: "inventory.released.v1" };
  for (const [effect, kind] of Object.entries(done)) if (effects[effect]) steps.push(kind);
  // The stream may have told of the end while this answer was on its way.
  const now = o.state === "placed" && known && known.state !== "placed" ? known
    : { state: o.state, reason, decidedAt: o.decided_at ? Date.parse(o.decided_at) : undefined };
  return {
    id: o.order_id, customer: o.customer_id, total: o.total, items: o.items, state: now.state, reason: now.reason,
    placedAt: Date.parse(o.placed_at), decidedAt: now.decidedAt,
    steps: known && known.steps.length > steps.length ? known.steps : steps,
  };
}
