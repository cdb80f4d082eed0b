// The one stream of events of this tab. It is read with fetch, because an
// EventSource cannot say who asks.

import { asCaller } from "./caller.js";

const PAUSE = 1000; // ms, before the stream is opened again

// listen calls onEvent for each event of one of kinds. A stream that breaks is
// taken up where it was, without end, unless this caller may not have it. onState
// says whether there is one, and of a refusal for good its status and detail.
export async function listen(kinds, onEvent, onState) {
  const wanted = new Set(kinds);
  const place = { last: "" };
  for (;;) {
    let failed = {};
    try { await read(place, (name, data) => { if (wanted.has(name)) onEvent(JSON.parse(data)); }, () => onState(true)); } catch (err) { failed = err; }
    onState(false, failed.refused);
    if (failed.refused) return;
    await new Promise((done) => setTimeout(done, Math.max(PAUSE, failed.wait || 0)));
  }
}

// unopened is the error of an answer that is no stream. With another token the
// page is loaded anew, so a refusal of this one stands.
async function unopened(res) {
  const err = new Error(res.statusText);
  if ([401, 403].includes(res.status)) {
    const problem = await res.json().catch(() => ({}));
    err.refused = { status: res.status, detail: problem.detail || res.statusText };
  }
  if ([429, 503].includes(res.status)) err.wait = 1000 * Number(res.headers.get("Retry-After")) || 0;
  return err;
}

async function read(place, take, opened) {
  const headers = { ...asCaller(), ...(place.last ? { "Last-Event-ID": place.last } : {}) };
  const res = await fetch("/v1/events", { headers, cache: "no-store" });
  if (!res.ok) throw await unopened(res);
  opened();
  const reader = res.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const { id, event, data } = fields(part);
      if (id) place.last = id;
      if (event) take(event, data);
    }
  }
}

// fields are those of one event; lines that begin with a colon are comments.
function fields(part) {
  const found = {};
  for (const line of part.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) found[line.slice(0, colon)] = line.slice(colon + 2);
  }
  return found;
}
