// Gives the page's store a list that was read before the stream told of more, and
// prints as JSON state, reason and time of the end of each order in it.

const { Store } = await import(process.argv[2]);
const store = new Store({ origin: () => undefined });
const at = (ms) => new Date(ms).toISOString();
const listed = (id, state, rest = {}) => ({ order_id: id, customer_id: "c", total: {}, items: [], state, effects: {}, placed_at: at(1000), ...rest });

store.event({ id: "1", subject: "cancelled", type: "order.cancelled.v1", time: at(2000), data: { order_id: "cancelled", reason: "out_of_stock" } });
store.event({ id: "2", subject: "confirmed", type: "order.placed.v1", time: at(1000), data: { order_id: "confirmed" } });
store.list([listed("cancelled", "placed"), listed("confirmed", "confirmed", { decided_at: at(3000) }), listed("placed", "placed")]);

const told = ({ state, reason, decidedAt }) => [state, reason ?? null, decidedAt ?? null];
console.log(JSON.stringify(Object.fromEntries([...store.orders].map(([id, o]) => [id, told(o)]))));
