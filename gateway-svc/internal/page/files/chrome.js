// The frame around the views: tabs, theme, the sign of the connection.

import { $ } from "./dom.js";

export function tabs(onShow) {
  const all = [...document.querySelectorAll("[role=tab]")];
  const show = (tab) => {
    for (const t of all) {
      t.setAttribute("aria-selected", String(t === tab));
      t.tabIndex = t === tab ? 0 : -1;
      $(t.getAttribute("aria-controls")).hidden = t !== tab;
    }
    onShow(tab.getAttribute("aria-controls"));
  };
  all.forEach((tab) => {
    tab.addEventListener("click", () => show(tab));
    tab.addEventListener("keydown", (e) => {
      const there = all.filter((t) => !t.hidden), i = there.indexOf(tab);
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: there.length - 1 }[e.key];
      if (to === undefined) return;
      e.preventDefault();
      const next = there[(to + there.length) % there.length];
      next.focus();
      show(next);
    });
  });
  return (id) => show(all.find((t) => t.getAttribute("aria-controls") === id));
}

export function theme() {
  const root = document.documentElement;
  const kept = localStorage.getItem("theme");
  if (kept) root.dataset.theme = kept;
  $("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  });
}

// connection shows whether there is a stream, and why there will be none.
export function connection(live, refused) {
  $("connection").classList.toggle("live", live);
  $("connection").textContent = live ? "live" : refused ? `not live: ${refused.detail}` : "connecting again";
}
