// Places an order against answers of a gateway, of which the last stays, and prints
// as JSON what became of it. Time passes by pauses alone, which end at once.

const [file, ...answers] = process.argv.slice(2);
const keys = new Set();
let tries = 0, now = 0;

globalThis.sessionStorage = { getItem: () => null };
Date.now = () => now;
globalThis.setTimeout = (done, pause) => { now += pause; queueMicrotask(done); };
globalThis.fetch = async (path, { headers }) => {
  tries++;
  keys.add(headers["Idempotency-Key"]);
  const answer = answers.length > 1 ? answers.shift() : answers[0];
  if (answer === "lost") throw new TypeError("the connection is lost");
  return new Response(answer.slice(4), { status: Number(answer.slice(0, 3)) });
};

const { place } = await import(file);
const of = await place({}).then((id) => ({ id }), (err) => ({ error: err.message, unknown: Boolean(err.unknown) }));
console.log(JSON.stringify({ ...of, keys: keys.size, tries }));
