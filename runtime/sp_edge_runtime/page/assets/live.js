// The first tab: what the camera sees, and what it is.

import * as chosen from "./chosen.js";
import { byId, make, percent, plural, resembling, show } from "./dom.js";
import { camera, find, now, source } from "./now.js";
import * as picture from "./picture.js";
import * as region from "./region.js";
import * as teach from "./teach.js";

export { again, shown } from "./picture.js";

let last = 0; // number of the camera that is shown

export function begin(changed) {
  picture.begin();
  teach.begin(changed);
  chosen.begin(() => { teach.mode(); preview(); }, (text) => {
    if (text) teach.tell(text, { bad: true });
    else byId("told").replaceChildren();
  });
  region.begin(changed, choose, (error) => teach.tell(error.message, { bad: true }));
  byId("sees").addEventListener("change", region.outlines);
}

export function update(state) {
  const first = now.state === null;
  now.state = state;
  if (!source()) now.source = (find(last) || state.sources[0])?.id ?? 0; // it may have been a part that is gone
  last = camera()?.id ?? 0;
  const some = state.sources.length > 0;
  if (some) show(byId("picture"), true);
  const size = camera()?.size;
  byId("view").style.setProperty("--aspect", size ? size[0] / size[1] : "");
  preview();
  show(byId("seeing"), some);
  show(byId("looking"), some);
  sources();
  trouble();
  cards();
  region.update();
  teach.update();
  if (first) picture.view();
}

export function result(found) {
  now.newest[found.id] = found;
  if (!now.state) return;
  if (found.id === now.source) {
    say();
    trouble();
    region.box(found);
  }
  if (find(found.id)?.of === camera()?.id) region.outlines();
}

function say() {
  const found = now.newest[now.source];
  show(byId("said"), Boolean(found) && now.state?.classes.length > 0);
  if (!found) return;
  const unknown = found.label === "unknown";
  byId("label").textContent = found.label;
  byId("confidence").textContent = unknown
    ? resembling(found.name, now.state?.classes)
    : percent(found.smoothed ? found.smoothed.confidence : found.confidence);
  for (const card of byId("cards").children) card.classList.toggle("seen", card.dataset.name === found.label);
  const negative = byId("negative");
  show(negative, now.state?.sources.length > 0);
  negative.disabled = unknown;
  negative.dataset.name = found.label;
  negative.textContent = unknown ? "Wrong: this is not that" : `Wrong: this is not “${found.label}”`;
}

// Without a camera, the picture that was chosen last is shown.
function preview() {
  if (now.state.sources.length) return;
  const newest = chosen.files().at(-1);
  picture.preview(newest);
  now.newest = { 0: newest?.found };
  say();
}

// Each source, and behind it its parts.
function sources() {
  const all = now.state.sources;
  const place = byId("sources");
  show(place, all.length > 1);
  const ordered = all.filter((one) => one.of == null).flatMap((one) => [one, ...all.filter((part) => part.of === one.id)]);
  place.replaceChildren(...ordered.map((one) => {
    const button = make("button", { type: "button", textContent: one.name, className: one.of == null ? "" : "of" });
    button.setAttribute("aria-pressed", one.id === now.source);
    button.addEventListener("click", () => choose(one.id));
    return button;
  }));
}

function choose(id) {
  now.source = id;
  last = camera()?.id ?? 0;
  sources();
  say();
  trouble();
  region.update();
  region.box(now.newest[id]);
  picture.view();
}

function trouble() {
  const one = source();
  let text = "";
  if (one) {
    text = {
      initializing: "Waiting for the first picture…",
      restarting: "The camera is lost. Trying again…",
      error: "The camera failed.",
      ended: "The video is over.",
    }[one.state] || (one.stale ? "The picture has stopped. Waiting for the camera…" : "");
    if (one.reason && text) text += ` (${one.reason})`;
  }
  byId("trouble").textContent = text;
  show(byId("trouble"), text !== "");
}

function cards() {
  const some = now.state.classes.filter((one) => !one.told_from);
  show(byId("known-title"), some.length > 0);
  byId("cards").replaceChildren(...some.map((one) => {
    const told = one.by_name ? "by its name alone" : plural(one.shots.length, "picture");
    const images = one.shots.slice(0, 5).map((shot) => make("li", {}, make("img", { src: `/api/shots/${shot.id}.jpg`, alt: "", loading: "lazy" })));
    const card = make("li", {}, make("h3", { textContent: one.name }), make("ul", { className: "shots" }, ...images), make("p", { className: "hint", textContent: told }));
    card.dataset.name = one.name;
    return card;
  }));
  say();
}
