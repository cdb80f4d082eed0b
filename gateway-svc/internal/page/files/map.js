// The map of the saga with live counts. Columns follow from the longest way from
// a start; nothing is placed by hand.

import { $, draw, soon } from "./dom.js";
import { count, kindName, service } from "./format.js";

const W = 122, H = 62, LEAST = 152, ROWGAP = 112, PAD = 8, RIGHT = 16; // pixels

export class MapView {
  constructor(saga, store) {
    Object.assign(this, { saga, store, edges: edgesOf(saga), marks: new Map() });
    this.draw();
    new ResizeObserver(soon(() => this.draw(), 100)).observe($("map"));
    this.count = soon(() => this.counts(), 250);
    store.onChange((e) => e && this.count());
  }

  draw() {
    const nodes = place(this.saga, this.edges, $("map-drawing").clientWidth);
    this.marks.clear();
    const width = PAD * 2 + Math.max(...nodes.map((n) => n.x)) + W + RIGHT, height = PAD * 2 + Math.max(...nodes.map((n) => n.y)) + H + 8;
    const svg = draw("svg", { width, height, viewBox: `${-PAD} ${-PAD} ${width} ${height}`, role: "img", "aria-label": "Events of the saga and the reactions between them" });
    const at = new Map(nodes.map((n) => [n.id, n]));
    for (const e of this.edges) this.edge(svg, e, at.get(e.from), at.get(e.to), ports(this.edges, at, e));
    for (const n of nodes) this.node(svg, n);
    for (const e of this.edges) svg.append(this.marks.get(e.id).number);
    $("map-drawing").replaceChildren(svg);
    this.counts();
  }

  edge(svg, e, from, to, [y1, y2]) {
    const x1 = from.x + W, x2 = to.x, bend = Math.max(30, (x2 - x1) / 2);
    const path = draw("path", { class: `edge ${e.tone}`, d: `M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` }, draw("title", {}, `${kindName(e.from)} → ${kindName(e.to)}: ${e.by}`));
    const number = draw("text", { class: "edge-count", x: x2 - 3, y: y2 - 3 });
    svg.append(path);
    this.marks.set(e.id, { path, number, last: 0 });
  }

  node(svg, n) {
    const seen = draw("text", { class: "seen", x: n.x + W / 2, y: n.y + H - 9 });
    const readers = this.saga.services.filter((s) => s.reactions.some((r) => r.on === n.id && !r.emits.length)).map((s) => service(s.name));
    svg.append(draw("g", { class: `node ${n.origin ? "origin" : this.saga.tone(n.id)}` },
      draw("title", {}, n.origin ? n.id : `${n.id}${readers.length ? `; noted by ${readers.join(", ")}` : ""}`),
      draw("rect", { class: "box", x: n.x, y: n.y, width: W, height: H, rx: 9 }),
      ...(n.origin ? [draw("text", { class: "name", x: n.x + W / 2, y: n.y + H / 2 + 4 }, shorten(n.id))] : this.inside(n, readers, seen))));
    if (!n.origin) this.marks.set(n.id, { number: seen, last: 0 });
  }

  // inside is what a box says: the service, what it did, how often, who notes it.
  inside(n, readers, seen) {
    const [by, what] = kindName(n.id).split("."), x = n.x + W / 2;
    return [draw("text", { class: "by", x, y: n.y + 16 }, by), draw("text", { class: "name", x, y: n.y + 33 }, what), seen,
      readers.length ? draw("text", { class: "by", x, y: n.y + H + 13 }, `noted by ${readers.join(", ")}`) : ""];
  }

  counts() {
    for (const [id, mark] of this.marks) {
      const n = this.store.seen.get(id) || 0;
      if (n === mark.last) continue;
      mark.number.textContent = count(n);
      mark.last = n;
      if (mark.path) beat(mark.path);
    }
  }
}

function beat(path) {
  path.classList.remove("beat");
  requestAnimationFrame(() => path.classList.add("beat"));
}

const shorten = (origin) => origin.replace("POST /v1/orders/{id}/cancel", "cancel request").replace("POST /v1/orders", "place request").replace(" of an undecided order", "");

function edgesOf(saga) {
  const edges = new Map();
  for (const s of saga.services) for (const r of s.reactions) for (const to of r.emits) {
    const from = r.on || r.origin, id = `${from}>${to}`;
    const tone = saga.tone(to) === "comp" ? "comp" : saga.tone(to) === "failure" ? "failure" : "";
    const known = edges.get(id), by = `${service(s.name)}${r.handler ? `: ${r.handler}` : ""}`;
    edges.set(id, { id, from, to, tone, by: known ? `${known.by}, ${by}` : by });
  }
  return [...edges.values()];
}

// ports spreads the lines over the sides of the boxes, so that none hides another.
function ports(edges, at, e) {
  const side = (id, mine, other) => {
    const all = edges.filter((f) => f[mine] === id).sort((f, g) => at.get(f[other]).y - at.get(g[other]).y || at.get(g[other]).x - at.get(f[other]).x);
    return at.get(id).y + (H * (all.indexOf(e) + 1)) / (all.length + 1);
  };
  return [side(e.from, "from", "to"), side(e.to, "to", "from")];
}

function place(saga, edges, width) {
  const depth = new Map();
  const deep = (id) => {
    if (!depth.has(id)) depth.set(id, Math.max(-1, ...edges.filter((e) => e.to === id).map((e) => deep(e.from))) + 1);
    return depth.get(id);
  };
  const origins = new Set(edges.map((e) => e.from).filter((id) => !saga.byKind.has(id)));
  const ids = [...origins, ...saga.events.map((e) => e.kind)];
  ids.forEach(deep);
  // An origin stands just before what it starts.
  for (const id of origins) depth.set(id, Math.min(...edges.filter((e) => e.from === id).map((e) => depth.get(e.to))) - 1);
  const columns = Map.groupBy(ids, (id) => depth.get(id)), most = Math.max(...[...columns.values()].map((c) => c.length));
  const bad = (id) => (origins.has(id) ? (depth.get(id) > 0 ? 3 : 0) : { good: 0, step: 1, comp: 2, failure: 2 }[saga.tone(id)]);
  const last = Math.max(...columns.keys()), step = Math.max(LEAST, (width - W - RIGHT - 2 * PAD) / last);
  return [...columns].flatMap(([column, list]) => list.toSorted((a, b) => bad(a) - bad(b))
    .map((id, i) => ({ id, origin: origins.has(id), x: column * step, y: (i + (most - list.length) / 2) * ROWGAP })));
}
