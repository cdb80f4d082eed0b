// Where each event of the saga stands on the map, and which way each reaction goes.
// Layers follow from the longest way from a start; nothing is placed by hand.

// In pixels: boxes, from one to the next across a layer, room for a line that passes
// a layer, and from one layer to the next. Narrow maps go downwards.
const WIDE = { w: 122, h: 62, across: 112, bend: 30, along: 152 };
const NARROW = { h: 56, bend: 14, along: 124, gap: 6 };
const NARROWEST = 700, SWEEPS = 8;

export const PAD = 8, RIGHT = 16;

// placed returns the boxes with x, y, w and h, and for each edge the boxes and bends on its way.
export function placed(saga, edges, width) {
  const { layers, ways } = layered(saga, edges);
  untangle(layers, saga);
  const down = width < NARROWEST, most = (size) => Math.max(...layers.map((list) => list.reduce((sum, n) => sum + size(n), 0)));
  const s = down ? narrow(layers, width) : { ...WIDE, along: Math.max(WIDE.along, (width - WIDE.w - RIGHT - 2 * PAD) / (layers.length - 1)) };
  const size = (n) => (n.bend ? s.bend : s.across), all = most(size);
  layers.forEach((list, i) => {
    let at = (all - list.reduce((sum, n) => sum + size(n), 0)) / 2;
    for (const n of list) {
      const middle = at + size(n) / 2;
      Object.assign(n, down ? { w: n.bend ? 0 : s.w, h: s.h, x: middle - (n.bend ? 0 : s.w / 2), y: i * s.along } : { w: s.w, h: n.bend ? 0 : s.h, x: i * s.along, y: middle - (n.bend ? 0 : s.h / 2) });
      at += size(n);
    }
  });
  return { down, ways, nodes: layers.flat().filter((n) => !n.bend) };
}

function narrow(layers, width) {
  const room = (list) => { const bends = list.filter((n) => n.bend).length; return (width - 2 * PAD - bends * NARROW.bend) / Math.max(1, list.length - bends); };
  const across = Math.min(110, ...layers.map(room));
  return { ...NARROW, across, w: across - NARROW.gap };
}

// layered puts every event into a layer, and a bend into each layer that a
// reaction passes, so that no line runs behind a box.
function layered(saga, edges) {
  const depth = depths(saga, edges), layers = [], ways = new Map();
  const put = (n, at) => { (layers[at] ||= []).push(Object.assign(n, { before: [], after: [] })); return n; };
  const nodes = new Map([...depth].map(([id, at]) => [id, put({ id, origin: !saga.byKind.has(id) }, at)]));
  for (const e of edges) {
    const way = [nodes.get(e.from)];
    for (let at = depth.get(e.from) + 1; at < depth.get(e.to); at++) way.push(put({ bend: true }, at));
    way.push(nodes.get(e.to));
    way.slice(1).forEach((n, i) => { way[i].after.push(n); n.before.push(way[i]); });
    ways.set(e, way);
  }
  return { layers, ways };
}

function depths(saga, edges) {
  const depth = new Map();
  const deep = (id) => {
    if (!depth.has(id)) depth.set(id, Math.max(-1, ...edges.filter((e) => e.to === id).map((e) => deep(e.from))) + 1);
    return depth.get(id);
  };
  const origins = new Set(edges.map((e) => e.from).filter((id) => !saga.byKind.has(id)));
  [...origins, ...saga.events.map((e) => e.kind)].forEach(deep);
  // An origin stands just before what it starts.
  for (const id of origins) depth.set(id, Math.min(...edges.filter((e) => e.from === id).map((e) => depth.get(e.to))) - 1);
  return depth;
}

// untangle orders each layer by where its neighbours are, to and fro: the usual
// way to have few lines cross. It begins with what goes well, and ends what goes wrong.
function untangle(layers, saga) {
  const bad = (n) => (n.bend ? 1 : n.origin ? 3 : { good: 0, step: 1, comp: 2, failure: 2 }[saga.tone(n.id)]);
  const rank = (list) => list.forEach((n, i) => { n.rank = (i + 0.5) / list.length; });
  for (const list of layers) rank(list.sort((a, b) => bad(a) - bad(b)));
  for (let i = 0; i < SWEEPS; i++) {
    const side = i % 2 ? "after" : "before";
    for (const list of i % 2 ? layers.toReversed() : layers) {
      const want = new Map(list.map((n) => [n, n[side].length ? n[side].reduce((sum, m) => sum + m.rank, 0) / n[side].length : n.rank]));
      rank(list.sort((a, b) => want.get(a) - want.get(b)));
    }
  }
}
