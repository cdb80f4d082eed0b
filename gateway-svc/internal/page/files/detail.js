// What is behind one event: its headers, its payload, what caused it.

import { el } from "./dom.js";
import { duration, kindName } from "./format.js";
import { appliedAt } from "./moments.js";

export function detail(e, story, saga, copies) {
  const committed = Date.parse(e.created_at), cause = story.events.find((c) => c.id === e.causation_id);
  const rows = [
    ["committed", e.created_at.slice(11, 23)],
    ["in the log", e.acked_at ? `after ${duration(Date.parse(e.acked_at) - committed)}` : e.offset != null ? "yes" : "not yet"],
    ["where", e.offset == null ? `${e.topic}/${e.partition}` : `${e.topic}/${e.partition}@${e.offset}`],
    ...saga.readers(e.kind).map((reader) => [`applied by ${reader.replace(/-svc$/, "")}`, applied(story, e, reader, committed)]),
    ["absorbed", copies ? `${copies} ${copies === 1 ? "copy" : "copies"} in the log since this page is open` : ""],
    ["because of", cause ? kindName(cause.kind) : "the request"],
    ["ce_source", `/${e.service}`], ["ce_sequence", e.sequence], ["ce_id", e.id],
    ["ce_correlationid", e.correlation_id], ["ce_causationid", e.causation_id], ["traceparent", e.traceparent],
  ].filter(([, value]) => value != null && value !== "");
  return [
    el("h3", {}, e.kind),
    el("dl", {}, ...rows.flatMap(([name, value]) => {
      const wide = { class: String(value).length > 24 ? "long" : null };
      return [el("dt", wide, name), el("dd", wide, String(value))];
    })),
    el("pre", {}, JSON.stringify(e.data, null, 2)),
  ];
}

function applied(story, e, reader, committed) {
  const at = appliedAt(story, e, reader);
  return at == null ? "not yet" : `after ${duration(Math.max(0, at - committed))}`;
}
