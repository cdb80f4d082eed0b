// The gateway's public API.

import { asCaller } from "./caller.js";

export async function get(path) {
  const res = await fetch(path, { headers: asCaller(), signal: AbortSignal.timeout(8000) });
  const body = await res.json();
  if (!res.ok) throw new Error(body.detail || res.statusText);
  return body;
}

// place sends an order under a key of its own.
export async function place(order) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key(), ...asCaller() };
  const res = await fetch("/v1/orders", { method: "POST", headers, body: JSON.stringify(order), signal: AbortSignal.timeout(8000) });
  return { status: res.status, body: await res.json() };
}

const key = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
