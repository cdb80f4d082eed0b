// The map of the saga with live counts.

import { $, draw, soon } from "./dom.js";
import { count, kindName, service } from "./format.js";
import { PAD, RIGHT, placed } from "./layout.js";

export class MapView {
  constructor(saga, store) {
    Object.assign(this, { saga, store, edges: edgesOf(saga), marks: new Map() });
    this.draw();
    new ResizeObserver(soon(() => this.draw(), 60)).observe($("map"));
    this.count = soon(() => this.counts(), 250);
    store.onChange((e) => e && this.count());
  }

  // draw waits until the map is in sight: before, it has no width.
  draw() {
    if (!$("map-drawing").clientWidth) return;
    const { nodes, ways, down } = placed(this.saga, this.edges, $("map-drawing").clientWidth);
    this.marks.clear();
    const width = PAD * 2 + Math.max(...nodes.map((n) => n.x + n.w)) + (down ? 0 : RIGHT), height = PAD * 2 + Math.max(...nodes.map((n) => n.y + n.h)) + (down ? 36 : 14);
    const svg = draw("svg", { width, height, viewBox: `${-PAD} ${-PAD} ${width} ${height}`, class: down ? "down" : null, role: "img", "aria-label": "Events of the saga and the reactions between them" });
    for (const e of this.edges) this.edge(svg, e, ends(ways, e, down), ways.get(e), down);
    for (const n of nodes) this.node(svg, n, down);
    for (const e of this.edges) svg.append(this.marks.get(e.id).number);
    $("map-drawing").replaceChildren(svg);
    this.counts(true);
  }

  edge(svg, e, [from, to], way, down) {
    const bends = way.slice(1, -1).flatMap((n) => (down ? [[n.x, n.y], [n.x, n.y + n.h]] : [[n.x, n.y], [n.x + n.w, n.y]]));
    const path = draw("path", { class: `edge ${e.tone}`, d: line([from, ...bends, to], down) }, draw("title", {}, `${kindName(e.from)} → ${kindName(e.to)}: ${e.by}`));
    const number = draw("text", { class: "edge-count", x: to[0] + (down ? 3 : -3), y: to[1] - 3 });
    svg.append(path);
    this.marks.set(e.id, { path, number, last: 0 });
  }

  node(svg, n, down) {
    const x = n.x + n.w / 2, seen = draw("text", { class: "seen", x, y: n.y + n.h - 9 });
    const readers = this.saga.services.filter((s) => s.reactions.some((r) => r.on === n.id && !r.emits.length)).map((s) => service(s.name));
    svg.append(draw("g", { class: `node ${n.origin ? "origin" : this.saga.tone(n.id)}` },
      draw("title", {}, n.origin ? n.id : `${n.id}${readers.length ? `; noted by ${readers.join(", ")}` : ""}`),
      draw("rect", { class: "box", x: n.x, y: n.y, width: n.w, height: n.h, rx: 9 }),
      ...(n.origin ? origin(n, x, down) : inside(n, x, readers, seen, down))));
    if (!n.origin) this.marks.set(n.id, { number: seen, last: 0 });
  }

  counts(all = false) {
    for (const [id, mark] of this.marks) {
      const n = this.store.seen.get(id) || 0;
      if (n === mark.last) continue;
      mark.number.textContent = count(n);
      mark.last = n;
      if (mark.path && !all) beat(mark.path);
    }
  }
}

function beat(path) {
  path.classList.remove("beat");
  requestAnimationFrame(() => path.classList.add("beat"));
}

const shorten = (origin) => origin.replace("POST /v1/orders/{id}/cancel", "cancel request").replace("POST /v1/orders", "place request").replace(" of an undecided order", "");

function origin(n, x, down) {
  const lines = down ? shorten(n.id).split(" ") : [shorten(n.id)];
  return lines.map((text, i) => draw("text", { class: "name", x, y: n.y + n.h / 2 + 4 + 13 * (i - (lines.length - 1) / 2) }, text));
}

// inside is what a box says: the service, what it did, how often, and below it who notes it.
function inside(n, x, readers, seen, down) {
  const [by, what] = kindName(n.id).split("."), noted = readers.length ? down ? ["noted by", ...readers] : [`noted by ${readers.join(", ")}`] : [];
  return [draw("text", { class: "by", x, y: n.y + 16 }, by), draw("text", { class: "name", x, y: n.y + (down ? 30 : 33) }, what), seen,
    ...noted.map((text, i) => draw("text", { class: "by noted", x, y: n.y + n.h + 13 + 11 * i }, text))];
}

// line goes through points along the layers, softly.
function line(points, down) {
  const pull = ([x, y], by) => (down ? `${x} ${y + by}` : `${x + by} ${y}`);
  return points.map((p, i) => {
    if (!i) return `M${p[0]} ${p[1]}`;
    if (i % 2 === 0) return `L${p[0]} ${p[1]}`; // past the boxes of a layer
    const before = points[i - 1], bend = Math.max(14, (down ? p[1] - before[1] : p[0] - before[0]) / 2);
    return `C${pull(before, bend)} ${pull(p, -bend)} ${p[0]} ${p[1]}`;
  }).join("");
}

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

// ends are where a line leaves and reaches its boxes: those of a box are spread over its
// side, in the order of what they lead to, so that none hides another.
function ends(ways, e, down) {
  const [cross, length] = down ? ["x", "w"] : ["y", "h"];
  const middle = (n) => n[cross] + n[length] / 2, way = ways.get(e);
  const share = (n, next) => {
    const all = [...ways.values()].filter((w) => next(w).here === n).sort((v, w) => middle(next(v).there) - middle(next(w).there));
    return n[cross] + (n[length] * (all.indexOf(way) + 1)) / (all.length + 1);
  };
  const from = way[0], to = way.at(-1), c1 = share(from, (w) => ({ here: w[0], there: w[1] })), c2 = share(to, (w) => ({ here: w.at(-1), there: w.at(-2) }));
  return down ? [[c1, from.y + from.h], [c2, to.y]] : [[from.x + from.w, c1], [to.x, c2]];
}
