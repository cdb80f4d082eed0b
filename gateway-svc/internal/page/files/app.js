// Puts the page together.

import { $, reveal } from "./dom.js";
import { get } from "./api.js";
import { BreakView } from "./break.js";
import { take } from "./caller.js";
import { connection, tabs, theme } from "./chrome.js";
import { watchConservation } from "./conservation.js";
import { Gauges } from "./gauges.js";
import { MapView } from "./map.js";
import { Orders } from "./orders.js";
import { ParkedView } from "./parked.js";
import { Placing } from "./place.js";
import { Saga } from "./saga.js";
import { Store } from "./store.js";
import { StoryView } from "./story.js";
import { listen } from "./stream.js";

take();
// A new token for a page that is open: browsers do not load it anew by themselves.
addEventListener("hashchange", () => take() && location.reload());
theme();
const saga = await Saga.load().catch(() => new Promise(() => setTimeout(() => location.reload(), 1000))); // as again.js
const store = new Store(saga);
const story = new StoryView(saga, store);
new Gauges(store).watch();
new MapView(saga, store);
const watched = { parked: new ParkedView() };
const show = tabs((id) => watched[id]?.watch());

const orders = new Orders(store, (id, pointed) => {
  $("follow").checked = false;
  choose(id);
  if (pointed) reveal($("stage"));
});

function choose(id) {
  orders.mark(id);
  story.choose(id);
}

function inspect(id) {
  $("follow").checked = false;
  show("story");
  choose(id);
}

const placing = new Placing(store, (id) => { if ($("follow").checked) choose(id); });
new BreakView(() => placing.rest());
watchConservation(inspect);

// Under load one story follows the other only as fast as eyes can.
let followed = 0;
store.onChange((e, copy) => {
  story.heard(e);
  if (!copy && e?.type === "order.placed.v1" && $("follow").checked && Date.now() - followed > 3000) {
    followed = Date.now();
    choose(e.subject);
  }
});

let again = 0;

async function recent() {
  clearTimeout(again);
  try {
    const list = (await get("/v1/orders?limit=200")).orders;
    store.list(list);
    if (!story.id && list.length) choose(list[0].order_id);
  } catch { again = setTimeout(recent, 2000); }
}

// A stream that was away may have left something out. Who may not have the stream
// of all has own orders still.
listen(saga.events.map((e) => e.kind), (e) => store.event(e), (live, refused) => {
  connection(live, refused);
  if (live || refused?.status === 403) recent();
});
