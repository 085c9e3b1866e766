// What is looked at of the picture: the part of the source, and further parts with names of their own.

import { send } from "./api.js";
import { byId, make, show } from "./dom.js";
import * as draw from "./draw.js";
import { camera, now, source } from "./now.js";
import * as place from "./place.js";

let refresh = () => {};
let choose = () => {};
let refused = () => {};
let drawn = null; // the part that waits for its name; null where a name is changed

// `chosen` is called with the number of a part that is new.
export function begin(changed, chosen, failed) {
  refresh = changed;
  choose = chosen;
  refused = failed;
  draw.begin();
  draw.offer(byId("draw"), (box) => look(box));
  draw.offer(byId("add-part"), (box) => ask(box));
  byId("whole").addEventListener("click", () => look(null));
  byId("edit-part").addEventListener("click", () => ask(null));
  byId("part-close").addEventListener("click", () => byId("part").close());
  byId("part-remove").addEventListener("click", () => save(() => send("DELETE", `/api/sources/${now.source}`)));
  byId("part-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = byId("part-name").value.trim();
    save(drawn ? () => send("POST", `/api/sources/${now.source}/regions`, { name, region: drawn })
      : () => send("PATCH", `/api/sources/${now.source}`, { name }));
  });
  new ResizeObserver(() => { show(byId("seen-box"), false); outlines(); }).observe(byId("view"));
}

export function update() {
  place.sized(camera()?.size);
  const one = source();
  const named = one?.of != null;
  show(byId("whole"), !named);
  show(byId("edit-part"), named && !one.fixed);
  if (named) byId("edit-part").textContent = `Rename or remove “${one.name}”`;
  outlines();
}

// A result of the source that is chosen: x, y, width and height of its view are in the frame's pixels.
export function box(found) {
  place.sized(camera()?.size);
  const visible = !byId("sees").checked && place.known() && Boolean(found?.view);
  if (visible) place.put(byId("seen-box"), place.pixels(found.view));
  show(byId("seen-box"), visible);
}

// The other named parts of this camera, each with what it shows.
export function outlines() {
  const of = camera()?.id;
  const parts = byId("sees").checked || !place.known() ? [] : now.state.sources.filter((one) => one.of != null && one.of === of);
  byId("parts").replaceChildren(...parts.map((one) => {
    const label = now.newest[one.id]?.label;
    const tag = make("span", { textContent: label ? `${one.name}: ${label}` : one.name });
    const outline = make("div", { className: one.id === now.source ? "part chosen" : "part" }, tag);
    place.put(outline, place.shares(one.region));
    return outline;
  }));
}

async function look(region) {
  try { await send("PUT", `/api/sources/${now.source}/region`, { region }); } catch (error) { refused(error); }
  await refresh();
}

function ask(box) {
  drawn = box;
  byId("part-name").value = box ? "" : source().name;
  byId("part-save").textContent = box ? "Add" : "Rename";
  show(byId("part-remove"), !box);
  byId("part-told").textContent = "";
  byId("part").showModal();
}

async function save(work) {
  try {
    const { id } = await work();
    byId("part").close();
    await refresh();
    if (id !== undefined) choose(id);
  } catch (error) { byId("part-told").textContent = error.message; }
}
