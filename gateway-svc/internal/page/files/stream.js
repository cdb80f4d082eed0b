// The one stream of events of this tab. The browser comes back by itself with
// Last-Event-ID; where it gives up, the place goes into the address.

export function listen(kinds, onEvent, onState) {
  let last = "";
  const open = () => {
    const source = new EventSource("/v1/events" + (last ? `?last-event-id=${encodeURIComponent(last)}` : ""));
    const take = (e) => { last = e.lastEventId; onEvent(JSON.parse(e.data)); };
    for (const kind of kinds) source.addEventListener(kind, take);
    source.onopen = () => onState(true);
    source.onerror = () => {
      onState(false);
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 2000);
    };
  };
  open();
}
