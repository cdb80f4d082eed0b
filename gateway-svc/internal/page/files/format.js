// How numbers, times and names are written for people.

const whole = new Intl.NumberFormat("en");
const cents = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

export const count = (n) => whole.format(Math.round(n));
export const money = (amount, currency) => `${cents.format(amount / 100)} ${currency}`;
export const short = (id) => "…" + id.slice(-8);
export const service = (name) => name.replace(/-svc$/, "");
export const kindName = (kind) => kind.replace(/\.v\d+$/, "");
// silent says which of several services are missing.
export const silent = (missing) => `${missing.map((m) => m.service).join(", ")} ${missing.length > 1 ? "do" : "does"} not answer`;
export const words = (s) => (s || "").replaceAll("_", " ");

// duration writes milliseconds.
export function duration(ms) {
  if (ms == null || Number.isNaN(ms)) return "";
  if (ms === 0) return "0 ms";
  if (ms < 0) return `−${duration(-ms)}`; // between two clocks
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60000)} min`;
}
