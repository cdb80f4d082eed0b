// A story as a row of moments: each event is committed, lands in the log, and is
// applied by its readers.

export function momentsOf(story, saga) {
  const moments = [];
  for (const e of story.events) {
    const committed = Date.parse(e.created_at);
    moments.push({ at: committed, event: e, what: "committed" });
    const logged = Math.max(committed, loggedAt(story, e));
    if (e.offset != null || e.acked_at) moments.push({ at: logged, event: e, what: "in the log" });
    for (const reader of saga.readers(e.kind)) {
      const at = appliedAt(story, e, reader);
      if (at != null) moments.push({ at: Math.max(at, logged), event: e, what: "applied", reader });
    }
  }
  // The sort is stable: moments of the same time stay in the order of causes.
  return moments.sort((a, b) => a.at - b.at);
}

// loggedAt is when an event was in the log: when Kafka's answer came, or earlier
// if somebody had acted on it before the relay heard that answer.
function loggedAt(story, e) {
  const effects = story.events.filter((f) => f.causation_id === e.id).map((f) => Date.parse(f.created_at));
  return Math.min(Date.parse(e.acked_at || e.created_at), ...effects);
}

// appliedAt is when a reader applied an event: when it wrote what followed, or
// for its last one when its inbox says. Null: not yet.
export function appliedAt(story, e, reader) {
  const to = story.applied.find((a) => a.service === reader && a.source === `/${e.service}`);
  if (!to || to.last_sequence < e.sequence) return null;
  const effect = story.events.find((f) => f.service === reader && f.causation_id === e.id);
  if (effect) return Date.parse(effect.created_at);
  return to.last_sequence === e.sequence ? Date.parse(to.applied_at) : Date.parse(e.acked_at || e.created_at);
}

// stateOf tells what of an event has happened within the first n moments.
export function stateOf(moments, n, e) {
  const state = { committed: false, logged: false, applied: new Set() };
  for (const m of moments.slice(0, n)) {
    if (m.event !== e) continue;
    if (m.what === "committed") state.committed = true;
    if (m.what === "in the log") state.logged = true;
    if (m.what === "applied") state.applied.add(m.reader);
  }
  return state;
}
