// Takes the place of the stream of events, and fills it with orders that are
// placed now and confirmed.
(() => {
  const kinds = ["order.placed", "inventory.reserved", "payment.authorized", "order.confirmed", "payment.captured", "inventory.shipped"];
  const real = window.fetch, bytes = new TextEncoder();
  let out, n = 0;
  window.fetch = (path, options) => (path === "/v1/events" ? Promise.resolve(new Response(new ReadableStream({ start: (c) => { out = c; } }))) : real(path, options));

  function order() {
    const subject = `00000000-0000-7000-8000-${String(n++).padStart(12, "0")}`, time = new Date().toISOString();
    const data = { order_id: subject, customer_id: "cust-01", email: "cust-01@example.test", items: [{ sku: "tea-green", quantity: 1, unit_price: 690 }], total: { amount: 690, currency: "EUR" }, payment_method: "wallet" };
    return kinds.map((kind, i) => `id: ${n}.${i}\nevent: ${kind}.v1\ndata: ${JSON.stringify({
      specversion: "1.0", id: `${subject}-${i}`, source: `/${kind.split(".")[0]}-svc`, type: `${kind}.v1`, subject, time, sequence: 1 + (i > 2), correlationid: subject,
      causationid: i ? `${subject}-${i - 1}` : undefined, data: i ? { order_id: subject } : data, topic: "t", partition: n % 6, offset: n * 6 + i,
    })}\n\n`).join("");
  }

  const give = (count) => out.enqueue(bytes.encode(Array.from({ length: count }, order).join("")));

  // feedAtOnce gives so many orders as fast as the page takes them.
  window.feedAtOnce = async (count) => {
    for (; count > 0; count -= 250) {
      give(250);
      do await new Promise((done) => setTimeout(done)); while (out.desiredSize <= 0);
    }
  };

  // feedFor gives rate orders a second for so long, and returns the times between
  // frames meanwhile, the longest last. All are in milliseconds.
  window.feedFor = async (length, rate) => {
    const frames = [], begin = performance.now();
    let sent = 0;
    const timer = setInterval(() => {
      const due = Math.floor((performance.now() - begin) / 1000 * rate);
      if (due > sent) give(due - sent);
      sent = due;
    }, 20);
    for (let last = begin, now; last - begin < length; last = now) {
      now = await new Promise((done) => requestAnimationFrame(() => done(performance.now())));
      frames.push(now - last);
    }
    clearInterval(timer);
    return frames.sort((a, b) => a - b);
  };
})();
