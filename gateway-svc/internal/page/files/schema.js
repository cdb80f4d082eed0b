// JSON Schema as a list of fields.

import { el } from "./dom.js";

const DEEPEST = 6;

// resolve follows a reference within the document.
export function resolve(doc, node) {
  let at = node;
  for (let i = 0; at?.$ref && i < 10; i++) at = at.$ref.split("/").slice(1).reduce((n, part) => n?.[part.replaceAll("~1", "/").replaceAll("~0", "~")], doc);
  return at || {};
}

// fields lists the properties of a schema, those of its objects and lists within.
export function fields(doc, schema, depth = 0) {
  const s = inner(doc, schema);
  if (s.oneOf || s.anyOf) return el("div", {}, ...(s.oneOf || s.anyOf).map((one, i) => el("div", {}, el("p", { class: "sub" }, i ? "or" : "either"), fields(doc, one, depth))));
  const properties = Object.entries(s.properties || {}).filter(([name]) => name !== "$schema");
  if (!properties.length) return el("p", { class: "type" }, typeOf(doc, schema));
  return el("dl", { class: "fields" }, ...properties.flatMap(([name, p]) => {
    const own = resolve(doc, p), nested = depth < DEEPEST && nests(doc, p);
    return [
      el("dt", {}, el("code", {}, name), " ", el("span", { class: "type" }, typeOf(doc, p) + (s.required?.includes(name) ? ", required" : ""))),
      el("dd", {}, p.description || own.description || "", nested ? fields(doc, p, depth + 1) : null),
    ];
  }));
}

// inner is the schema of the elements when it is a list, and of the JSON when it
// is a text that holds some.
function inner(doc, schema) {
  let s = resolve(doc, schema);
  while (s.items || s.contentSchema) s = resolve(doc, s.items || s.contentSchema);
  return s;
}

const nests = (doc, schema) => { const s = inner(doc, schema); return Boolean(s.properties || s.oneOf || s.anyOf); };

// typeOf says in a few words what a value may be.
function typeOf(doc, schema) {
  const s = resolve(doc, schema);
  const types = [s.type || (s.properties ? "object" : s.oneOf ? "one of several" : "any")].flat().filter((t) => t !== "null");
  const nullable = [s.type].flat().includes("null") ? " or null" : "";
  const what = s.items ? `list of ${typeOf(doc, s.items)}` : types.join(" or ");
  const limits = [
    s.contentMediaType, s.format, s.const !== undefined && `always ${JSON.stringify(s.const)}`, s.enum && `one of ${s.enum.join(", ")}`, s.pattern && `as ${s.pattern}`,
    s.minimum !== undefined && `from ${s.minimum}`, s.maximum !== undefined && `to ${s.maximum}`, s.minLength && `at least ${s.minLength} characters`, s.maxLength && `at most ${s.maxLength} characters`,
    s.minItems && `at least ${s.minItems}`, s.maxItems && `at most ${s.maxItems}`,
  ].filter(Boolean);
  return what + nullable + (limits.length ? ` (${limits.join(", ")})` : "");
}
