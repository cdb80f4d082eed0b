// What each service thinks of the order: its states, the one it is in, and what
// should come next.

import { el } from "./dom.js";
import { duration, kindName, words } from "./format.js";
import { appliedAt } from "./moments.js";

const LATE = 2000; // milliseconds an event may lie in the log before its reader is late

const TONES = {
  confirmed: "good", captured: "good", shipped: "good", sent: "good",
  cancelled: "failure", declined: "failure", rejected: "failure",
  voided: "comp", released: "comp", refused: "comp",
};

export function stateCards(full, story, saga) {
  const now = {
    "order-svc": [full.order?.state, full.order?.reason],
    "inventory-svc": [full.reservation?.state, full.reservation?.reason],
    "payment-svc": [full.payment?.state, full.payment?.reason],
  };
  const missing = new Set(full.missing.map((m) => m.service));
  return [
    ...Object.entries(now).map(([name, [state, reason]]) => machineCard(saga, story, name, state, reason, missing.has(name), full)),
    messageCard(full.notifications, full.webhooks, missing.has("notification-svc")),
  ];
}

function machineCard(saga, story, name, state, reason, away, full) {
  const machine = saga.services.find((s) => s.name === name).machine;
  const states = [...new Set(machine.flatMap((t) => [t.from, t.to]))].filter((s) => s !== "none" && s !== "new");
  const waits = waiting(saga, story, name);
  const late = waits.filter((w) => w.for > LATE);
  return el("article", { class: `card${late.length ? " overdue" : ""}` },
    el("h4", {}, name),
    el("ul", { class: "machine", "aria-label": `states of ${name}` }, ...states.map((s) => el("li", { class: TONES[s] || "", "aria-current": s === state ? "step" : null }, s))),
    el("p", { class: late.length || away ? "late" : "" }, away ? "does not answer now" : next(machine, state, waits, late, full, name)),
    reason ? el("p", {}, words(reason)) : null);
}

// waiting lists the events in the log that the service has not applied.
function waiting(saga, story, name) {
  return story.events
    .filter((e) => e.offset != null && saga.readers(e.kind).includes(name) && appliedAt(story, e, name) == null)
    .map((e) => ({ kind: kindName(e.kind), for: Date.now() - Date.parse(e.acked_at || e.created_at) }));
}

function next(machine, state, waits, late, full, name) {
  if (late.length) return `overdue: ${late[0].kind} has been in the log for ${duration(late[0].for)}`;
  if (waits.length) return `next: ${waits[0].kind}, which is in the log`;
  const on = [...new Set(machine.filter((t) => t.from === (state || (name === "order-svc" ? "none" : "new"))).map((t) => kindName(t.on)))];
  if (!state) return "has not heard of it yet";
  if (!on.length) return "done";
  const by = name === "order-svc" && full.order?.deadline_at ? ` by ${new Date(full.order.deadline_at).toLocaleTimeString()}` : "";
  return `next: ${on.join(" or ")}${by}`;
}

function messageCard(mails, webhooks, away) {
  const item = (what) => (m) => el("li", { class: m.refused ? TONES.refused : TONES[m.state] || "", "aria-current": "step", title: m.last_error || null }, `${what}${m.kind}: ${m.refused ? "refused" : m.state}`);
  const none = !mails.length && !webhooks.length;
  return el("article", { class: "card" }, el("h4", {}, "notification-svc"),
    el("ul", { class: "machine", "aria-label": "mails and webhooks" }, ...mails.map(item("")), ...webhooks.map(item("webhook "))),
    el("p", { class: away ? "late" : "" }, away ? "does not answer now" : none ? "no mail yet" : "one message for each kind, however often it is told"));
}
