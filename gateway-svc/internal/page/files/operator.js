// What only an operator may do.

import { asOperator } from "./caller.js";

// act sends a request as operator, and returns the answer or throws what is wrong.
// An answer may be several lines, one of which may tell of an error.
export async function act(method, path, body, patience = 45000) {
  const headers = { "Content-Type": "application/json", ...asOperator() };
  const res = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(patience) });
  const text = await res.text();
  if (!res.ok) throw Object.assign(new Error(detailOf(text) || res.statusText), { status: res.status });
  const lines = text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  const wrong = lines.find((line) => line.error);
  if (wrong) throw new Error(wrong.error);
  return lines[0] || {};
}

function detailOf(text) {
  try { return JSON.parse(text).detail; } catch { return text; }
}
