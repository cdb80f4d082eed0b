// Runs the page's stream against answers of a gateway, and prints as JSON what the
// page was told and how long, in ms, it left the gateway alone before each try.
// Time does not pass: a pause ends at once.

const [file, ...answers] = process.argv.slice(2);
const states = [], pauses = [];
let end;
const over = new Promise((done) => { end = done; });

globalThis.sessionStorage = { getItem: () => null };
globalThis.setTimeout = (done, pause) => { pauses.push(pause); queueMicrotask(done); };
globalThis.fetch = () => {
  if (!answers.length) { // the next try: all is seen
    end();
    return new Promise(() => {});
  }
  const [status, after] = answers.shift().split(" ");
  const headers = { "Content-Type": "application/problem+json", ...(after ? { "Retry-After": after } : {}) };
  return Promise.resolve(new Response(JSON.stringify({ detail: `why ${status}` }), { status: Number(status), headers }));
};

const { listen } = await import(file);
const left = listen(["a"], () => {}, (live, refused) => states.push(refused ? `${refused.status} ${refused.detail}` : live)).then(() => true);
const stopped = await Promise.race([left, over.then(() => false)]);
console.log(JSON.stringify({ stopped, states, pauses }));
