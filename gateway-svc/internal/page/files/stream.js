// The one stream of events of this tab. It is read with fetch, because an
// EventSource cannot say who asks.

import { asCaller } from "./caller.js";

const PAUSE = 1000; // ms, before the stream is opened again

// listen calls onEvent for each event of one of kinds, without end: a stream that
// breaks is taken up where it was. onState says whether there is one.
export async function listen(kinds, onEvent, onState) {
  const wanted = new Set(kinds);
  const place = { last: "" };
  for (;;) {
    try { await read(place, (name, data) => { if (wanted.has(name)) onEvent(JSON.parse(data)); }, () => onState(true)); } catch { /* it is opened again */ }
    onState(false);
    await new Promise((done) => setTimeout(done, PAUSE));
  }
}

async function read(place, take, opened) {
  const headers = { ...asCaller(), ...(place.last ? { "Last-Event-ID": place.last } : {}) };
  const res = await fetch("/v1/events", { headers, cache: "no-store" });
  if (!res.ok) throw new Error(res.statusText);
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
