// Loads the page anew when a file of it cannot be had: while instances are
// exchanged, one of another version may be asked for it. The browser keeps what
// came, so that less is missing each time. It stands before all that it looks at.
addEventListener("error", ({ target }) => {
  if (target instanceof HTMLScriptElement || target instanceof HTMLLinkElement) setTimeout(() => location.reload(), 1000);
}, true);
