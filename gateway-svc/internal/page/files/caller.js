// Who asks. A token of the caller's and the operator's one come behind the # of
// the address, which no server sees, and stay with this tab.

const NAMES = ["token", "operator"];

// take keeps the tokens and takes them out of the address, so that nobody copies
// them with a link. It tells whether there were any.
export function take() {
  const given = new URLSearchParams(location.hash.slice(1));
  const names = NAMES.filter((name) => given.get(name));
  if (!names.length) return false;
  for (const name of names) sessionStorage.setItem(name, given.get(name));
  history.replaceState(null, "", location.pathname + location.search);
  return true;
}

// isOperator tells whether this tab has an operator's token; whether it is right,
// the gateway says.
export const isOperator = () => Boolean(sessionStorage.getItem("operator"));

export const forgetOperator = () => sessionStorage.removeItem("operator");

// asCaller are the headers of every request.
export function asCaller() {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: `Bearer ${token}` } : {};
}

// asOperator are those of a request that only an operator may make.
export const asOperator = () => ({ ...asCaller(), "X-Pavane-Operator": sessionStorage.getItem("operator") || "" });
