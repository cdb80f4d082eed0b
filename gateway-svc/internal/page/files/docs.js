// Renders /openapi.json and /asyncapi.json for people. It knows of both formats
// what these two documents use.

import { $, el } from "./dom.js";
import { get } from "./api.js";
import { theme } from "./chrome.js";
import { fields, resolve } from "./schema.js";

async function section(path, render) {
  try { render(await get(path)); } catch (err) { $("trouble").textContent = `${path} cannot be shown: ${err.message}`; }
}

const METHODS = ["get", "post", "put", "patch", "delete"];

function api(doc) {
  $("api").append(el("p", { class: "sub" }, `${doc.info.title} ${doc.info.version}, OpenAPI ${doc.openapi}. Errors are problem details (RFC 9457).`));
  const list = Object.entries(doc.paths).flatMap(([path, item]) => METHODS.filter((m) => item[m]).map((m) => ({ path, method: m, ...item[m] })));
  contents("HTTP API", list.map((o) => [o.operationId, `${o.method.toUpperCase()} ${o.path}`]));
  $("api").append(...list.map((o) => operation(doc, o)));
}

function operation(doc, o) {
  const parameters = (o.parameters || []).map((p) => resolve(doc, p));
  const body = o.requestBody && bodyOf(resolve(doc, o.requestBody));
  return el("article", { class: "entry", id: o.operationId },
    el("h3", {}, el("span", { class: `method ${o.method}` }, o.method.toUpperCase()), " ", el("code", {}, o.path)),
    o.summary ? el("p", {}, o.summary) : null, o.description ? el("p", { class: "sub" }, o.description) : null,
    parameters.length ? part("Parameters", el("dl", { class: "fields" }, ...parameters.flatMap((p) => parameter(doc, p)))) : null,
    body ? part("Body", fields(doc, body)) : null,
    part("Answers", ...Object.entries(o.responses).map(([status, r]) => answer(doc, status, resolve(doc, r)))));
}

function parameter(doc, p) {
  const s = resolve(doc, p.schema || {});
  return [el("dt", {}, el("code", {}, p.name), " ", el("span", { class: "type" }, `${p.in}, ${[s.type].flat().join(" or ")}${p.required ? ", required" : ""}`)), el("dd", {}, p.description || s.description || "")];
}

// bodyOf prefers JSON, which is what everything here speaks.
function bodyOf(message) {
  const [type, content] = Object.entries(message.content || {}).find(([t]) => t.includes("json") || t === "text/event-stream") || Object.entries(message.content || {})[0] || [];
  return content && { type, ...content.schema };
}

function answer(doc, status, r) {
  const problem = Boolean(r.content?.["application/problem+json"]), body = !problem && bodyOf(r);
  const line = [el("b", {}, status === "default" ? "otherwise" : status), ` ${r.description || ""}${problem ? ", a problem" : ""}`];
  if (!body) return el("p", { class: "status" }, ...line);
  return el("details", { class: "status" }, el("summary", {}, ...line), r.headers ? el("p", { class: "sub" }, `headers: ${Object.keys(r.headers).join(", ")}`) : null, fields(doc, body));
}

function events(doc) {
  $("events").append(el("p", { class: "sub" }, `${doc.info.title} ${doc.info.version}, AsyncAPI ${doc.asyncapi}. CloudEvents 1.0 in Kafka’s binary mode, keyed by the order.`));
  const trait = Object.values(doc.components.messageTraits || {})[0];
  if (trait) $("events").append(el("article", { class: "entry", id: "event-headers" }, el("h3", {}, "Headers of every event"), fields(doc, trait.headers)));
  contents("Events", [["event-headers", "headers"], ...Object.keys(doc.components.messages).map((name) => [`event-${name}`, name])]);
  for (const [topic, channel] of Object.entries(doc.channels)) {
    $("events").append(el("h3", { class: "topic" }, "Topic ", el("code", {}, channel.address || topic)), ...Object.keys(channel.messages).map((name) => message(doc, name)));
  }
}

function message(doc, name) {
  const m = doc.components.messages[name], by = { send: [], receive: [] };
  for (const [id, o] of Object.entries(doc.operations)) {
    if (o.messages.some((ref) => ref.$ref.endsWith(`/${name}`))) by[o.action].push(id.split(".")[0]);
  }
  return el("article", { class: "entry", id: `event-${name}` }, el("h3", {}, el("code", {}, name)),
    el("p", {}, m.description || m.summary),
    el("p", { class: "sub" }, `published by ${by.send.join(", ") || "nobody"}; read by ${by.receive.join(", ") || "nobody"}`),
    part("Data", fields(doc, m.payload)));
}

const part = (title, ...children) => el("div", { class: "part" }, el("h4", {}, title), ...children);

function contents(title, list) {
  $("contents").append(el("h2", {}, title), el("ul", {}, ...list.map(([id, text]) => el("li", {}, el("a", { href: `#${encodeURIComponent(id)}` }, text)))));
}

theme();
await section("/openapi.json", api);
await section("/asyncapi.json", events);
if (location.hash) document.querySelector(`[id="${CSS.escape(decodeURIComponent(location.hash.slice(1)))}"]`)?.scrollIntoView();
