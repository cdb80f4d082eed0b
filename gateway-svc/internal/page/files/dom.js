// Small helpers to make elements. Text always goes in as text, never as HTML.

export const $ = (id) => document.getElementById(id);

// el makes an HTML element: el("p", {class: "x"}, "text", child …).
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

// draw makes an SVG element.
export function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...there(children));
  return node;
}

const there = (children) => children.filter((c) => c != null && c !== false);

// widthOf is how wide a text of an SVG is, in pixels. The font's name is that of the page.
const canvas = document.createElement("canvas").getContext("2d");
export function widthOf(text, font) {
  canvas.font = `${font} ${getComputedStyle(document.body).fontFamily}`;
  return canvas.measureText(text).width;
}

// put replaces what is in a node; null and false are left out.
export const put = (node, ...children) => node.replaceChildren(...there(children));

// reveal brings what is below the screen, as on a phone, into sight.
export function reveal(node) {
  if (node.getBoundingClientRect().top > innerHeight - 60) node.scrollIntoView({ block: "start" });
}

// soon returns a function that runs f once per pause, however often it is called.
export function soon(f, pause) {
  let due = 0;
  return () => { due ||= setTimeout(() => { due = 0; f(); }, pause); };
}
