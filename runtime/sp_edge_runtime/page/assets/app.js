// Begins the page: signs in, shows the tabs, and hears from the device what has changed.

import { get, send } from "./api.js";
import { byId, show } from "./dom.js";
import * as classes from "./classes.js";
import * as live from "./live.js";
import * as recent from "./recent.js";
import * as settings from "./settings.js";
import * as told from "./told.js";

const parts = { live, classes, recent, settings };
let state = null;
let events = null;
let lost = false; // the connection
let asked = 0;
let taken = 0;

async function signIn() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", "/");
  await send("POST", "/api/login", { token });
}

async function refresh() {
  try {
    const mine = ++asked;
    const now = await get("/api/state");
    if (mine < taken) return; // a later answer came first
    taken = mine;
    state = now;
    offline("");
    told.update(state);
    for (const part of Object.values(parts)) part.update(state);
  } catch (error) {
    offline(error.status === 401 ? error.message : "No connection to the device. Trying again…");
  }
}

function offline(text) {
  byId("offline").textContent = text;
  show(byId("offline"), text !== "");
}

function listen() {
  events?.close();
  const mine = new EventSource("/api/events");
  events = mine;
  events.addEventListener("result", (message) => live.result(JSON.parse(message.data)));
  events.addEventListener("changed", refresh);
  events.addEventListener("open", () => {
    if (lost) live.again();
    lost = false;
  });
  events.addEventListener("error", () => {
    lost = true;
    if (mine.readyState === EventSource.CLOSED) { // it was refused, and does not try again by itself
      setTimeout(() => { if (events === mine && !document.hidden) listen(); }, 2000);
    }
    refresh();
  });
}

function choose(name) {
  for (const tab of document.querySelectorAll('[role="tab"]')) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    show(byId(tab.getAttribute("aria-controls")), chosen);
    parts[tab.getAttribute("aria-controls")].shown(chosen);
  }
}

function tabs() {
  const all = [...document.querySelectorAll('[role="tab"]')];
  for (const [place, tab] of all.entries()) {
    tab.addEventListener("click", () => choose(tab.getAttribute("aria-controls")));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = all[(place + step + all.length) % all.length];
      next.focus();
      next.click();
    });
  }
}

// A page that nobody looks at needs neither frames nor events.
document.addEventListener("visibilitychange", () => {
  live.shown(!byId("live").hidden);
  if (document.hidden) events?.close();
  else listen();
});

try {
  await signIn();
} catch (error) {
  offline(error.message);
}
tabs();
for (const part of Object.values(parts)) part.begin(refresh);
await refresh();
choose("live");
listen();
