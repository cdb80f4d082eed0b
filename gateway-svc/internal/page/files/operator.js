// What only an operator may do. The token comes behind the # of the address that
// `pavane up` prints, which no server sees; it stays with this tab.

const KEPT = "operator";

// known tells whether this tab has a token; whether it is right, the gateway says.
export const known = () => Boolean(sessionStorage.getItem(KEPT));

// take keeps the token and takes it out of the address, so that nobody copies it
// with a link.
export function take() {
  const token = new URLSearchParams(location.hash.slice(1)).get("operator");
  if (!token) return;
  sessionStorage.setItem(KEPT, token);
  history.replaceState(null, "", location.pathname + location.search);
}

export const forget = () => sessionStorage.removeItem(KEPT);

// act sends a request as operator, and returns the answer or throws what is wrong.
// An answer may be several lines, one of which may tell of an error.
export async function act(method, path, body, patience = 45000) {
  const headers = { "Content-Type": "application/json", "X-Pavane-Operator": sessionStorage.getItem(KEPT) || "" };
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
