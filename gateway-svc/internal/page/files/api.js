// The gateway's public API.

import { asCaller } from "./caller.js";

export async function get(path) {
  const res = await fetch(path, { headers: asCaller(), signal: AbortSignal.timeout(8000) });
  const body = await res.json();
  if (!res.ok) throw new Error(body.detail || res.statusText);
  return body;
}

const PATIENCE = 20000, PAUSE = 500; // ms: with an order of which no answer tells, and before it is asked about again
const UNSEEN = [401, 403, 429]; // refusals by the gateway alone, which looks at no key

// place sends an order under a key of its own and returns its id. While no answer
// tells what became of it, it is sent again: the key makes it the same order. An
// error says by unknown whether the order may be placed all the same.
export async function place(order) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key(), ...asCaller() };
  const end = Date.now() + PATIENCE;
  for (let doubt = false; ; doubt = true) {
    try { return await placeOnce(headers, JSON.stringify(order)); } catch (err) {
      if (err.refused) throw Object.assign(err, { unknown: doubt && UNSEEN.includes(err.status) });
      if (Date.now() >= end) throw Object.assign(err, { unknown: true });
    }
    await new Promise((done) => setTimeout(done, PAUSE));
  }
}

async function placeOnce(headers, body) {
  const res = await fetch("/v1/orders", { method: "POST", headers, body, signal: AbortSignal.timeout(8000) });
  const answer = res.ok ? await res.json() : await res.json().catch(() => ({}));
  if (answer.order_id) return answer.order_id; // also of one that is cancelled by now
  // Who has too much to do does not begin; any other failure may come after the order was taken.
  const refused = res.status < 500 || answer.type === "urn:pavane:problem:busy";
  throw Object.assign(new Error(answer.detail || answer.title || `status ${res.status}`), { refused, status: res.status });
}

const key = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
