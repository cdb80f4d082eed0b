// The sequence diagram of one order, as SVG.

import { draw, widthOf } from "./dom.js";
import { duration, kindName, service } from "./format.js";
import { stateOf } from "./moments.js";

const LANES = ["order-svc", "inventory-svc", "payment-svc", "notification-svc"];
const TOP = 34, ROW = 53;

// layout fits the lanes into a width in pixels.
export function layout(width) {
  const narrow = width < 560, gutter = narrow ? 50 : 72, right = narrow ? 40 : 70;
  const gap = Math.max(narrow ? 70 : 130, (width - gutter - right - (narrow ? 26 : 40)) / (LANES.length - 1));
  return { narrow, gutter, gap, first: gutter + (narrow ? 26 : 40), width: gutter + (narrow ? 26 : 40) + gap * (LANES.length - 1) + right };
}

// sequence draws the first n moments. pick is called with an event.
export function sequence({ story, moments, n, saga, width, chosen, fresh, copies, pick }) {
  const l = layout(width), x = (name) => l.first + l.gap * Math.max(0, LANES.indexOf(name));
  const shown = story.events.filter((e) => stateOf(moments, n, e).committed);
  const height = TOP + Math.max(4, story.events.length) * ROW + 40;
  const svg = draw("svg", { width: l.width, height, viewBox: `0 0 ${l.width} ${height}`, class: l.narrow ? "narrow" : null, role: "group", "aria-label": "Sequence of the order's events" });
  for (const name of LANES) {
    svg.append(draw("line", { class: "lane", x1: x(name), x2: x(name), y1: TOP - 10, y2: height - 30 }),
      draw("text", { class: "lane-name", x: x(name), y: 14 }, l.narrow ? service(name) : name));
  }
  shown.forEach((e, i) => svg.append(row({ e, i, l, x, saga, story, state: stateOf(moments, n, e), chosen: chosen === e.id, fresh: fresh?.event === e && fresh.what === "committed", copies: copies(e), pick })));
  for (const p of story.parked) svg.append(parked(p, story, x));
  svg.append(draw("text", { class: "key", x: l.first - 8, y: height - 8 }, l.narrow ? "○ committed  ◐ in the log  ● applied" : "○ committed with its outbox row    ◐ in the log at partition@offset    ● applied by a reader"));
  return svg;
}

function row({ e, i, l, x, saga, story, state, chosen, fresh, copies, pick }) {
  const y = TOP + 8 + i * ROW, at = x(e.service), tone = saga.tone(e.kind);
  const since = Date.parse(e.created_at) - Date.parse(story.events[0].created_at);
  // It says all that stands in the row, in words; the rest is hidden from those who hear it.
  const label = `${describe(e, state)}${copies ? `, ${copies} absorbed` : ""}, after ${duration(since)}`;
  const g = draw("g", {
    class: `event ${tone}${chosen ? " chosen" : ""}${fresh ? " new" : ""}`, tabindex: 0, role: "button", "data-event": e.id, "aria-label": label, "aria-pressed": String(chosen),
    onclick: () => pick(e), onfocus: () => pick(e), onpointerenter: () => pick(e),
  });
  g.append(draw("rect", { class: "hit", x: 0, y: y - 4, width: l.width, height: ROW - 4 }),
    draw("text", { class: "time", x: l.gutter - 6, y: y + 16, "aria-hidden": "true" }, `+${duration(since)}`));
  for (const reader of saga.readers(e.kind)) {
    if (reader !== e.service) arrow(g, at, x(reader), y + 36, state.logged, state.applied.has(reader));
  }
  pill(g, e, l, at, y, state, copies);
  g.append(draw("circle", { class: "mark", cx: at, cy: y + 36, r: 6 }));
  if (state.logged) g.append(draw("path", { class: "half", d: `M${at} ${y + 30} a6 6 0 0 0 0 12 z` }));
  return g;
}

// pill names the event beside its lifeline, and where in the log it is.
function pill(g, e, l, at, y, state, copies) {
  const text = l.narrow ? kindName(e.kind).split(".").pop() : kindName(e.kind);
  const w = widthOf(text, "620 12px") + 18, left = Math.min(Math.max(at - w / 2, l.narrow ? l.gutter - 4 : l.gutter), l.width - w - 2);
  g.append(draw("rect", { class: "pill", x: left, y, width: w, height: 22, rx: 11 }),
    draw("text", { class: "kind", x: left + w / 2, y: y + 15, "text-anchor": "middle" }, text));
  if (copies) {
    const end = left + w + 70 > l.width;
    g.append(draw("text", { class: "absorbed", "aria-hidden": "true", x: end ? left - 6 : left + w + 6, y: y + 15, "text-anchor": end ? "end" : "start" }, `+${copies} absorbed`, draw("title", {}, "copies of this event in the log; each reader drops them by their number")));
  }
  if (state.logged && e.offset != null) {
    const last = at > l.first + l.gap * 2.5;
    g.append(draw("text", { class: "place-text", "aria-hidden": "true", x: last ? at - 11 : at + 11, y: y + 50, "text-anchor": last ? "end" : "start" }, `${l.narrow ? "" : e.topic.split(".")[0] + "/"}${e.partition}@${e.offset}`));
  }
}

// arrow reaches a reader once the event is in the log; the dot fills when it is
// applied.
function arrow(g, from, to, y, logged, applied) {
  if (!logged) return;
  const way = Math.sign(to - from), end = to - way * 9;
  g.append(draw("path", { class: "arrow", d: `M${from + way * 7} ${y} H${end}` }),
    draw("path", { class: "head", d: `M${end - way * 7} ${y - 4.5} L${end} ${y} L${end - way * 7} ${y + 4.5}` }),
    draw("circle", { class: applied ? "applied" : "mark", cx: to, cy: y, r: applied ? 5.5 : 4.5 }));
}

function parked(p, story, x) {
  const i = story.events.findIndex((e) => `/${e.service}` === p.source && e.sequence === p.sequence);
  const y = TOP + 8 + Math.max(0, i) * ROW + 36;
  return draw("g", {}, draw("rect", { class: "parked-mark", x: x(p.service) - 9, y: y - 9, width: 18, height: 18, rx: 4 }, draw("title", {}, `parked by ${p.service}: ${p.reason}`)),
    draw("text", { class: "time", x: x(p.service) + 4, y: y + 4 }, "P"));
}

function describe(e, state) {
  const applied = [...state.applied].map(service).join(" and ");
  return `${kindName(e.kind)} by ${service(e.service)}, ${state.logged ? `in the log at ${e.topic} ${e.partition} ${e.offset ?? ""}` : "committed"}${applied ? `, applied by ${applied}` : ""}`;
}
