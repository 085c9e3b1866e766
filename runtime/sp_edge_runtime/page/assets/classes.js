// The second tab: what was taught, how well it is told apart, and how it is corrected.

import { get, patiently, query, send } from "./api.js";
import { byId, make, plural } from "./dom.js";
import { tell } from "./told.js";

let state = null;
let refresh = () => {};
let visible = false;
let chosen = null; // { name, shot } in the dialog

export function begin(changed) {
  refresh = changed;
  const dialog = byId("shot");
  byId("shot-close").addEventListener("click", () => dialog.close());
  byId("shot-remove").addEventListener("click", () => { dialog.close(); act(() => send("POST", "/api/shots", chosen), `A picture of “${chosen.name}” is taken out.`); });
  byId("move").addEventListener("submit", () => {
    const to = byId("move-to").value.trim();
    if (to) act(() => send("POST", "/api/shots", { ...chosen, to }), `Moved from “${chosen.name}” to “${to}”.`);
  });
}

export function shown(yes) {
  visible = yes;
  if (yes && state) { draw(); advise(); }
}

export function update(now) {
  const same = state?.bank_version === now.bank_version;
  state = now;
  if (visible && !same) { draw(); advise(); }
}

async function act(work, done) {
  try {
    await work();
    await refresh();
    tell(byId("note"), done, { undone: refresh });
  } catch (error) {
    tell(byId("note"), error.message);
    await refresh();
  }
}

async function advise() {
  const place = byId("advice");
  if (!state.classes.length) {
    place.replaceChildren(make("p", { textContent: "Nothing is taught yet. Teach the first thing under Live." }));
    return;
  }
  try {
    const said = await patiently(() => get("/api/advice"));
    const parts = [];
    if (said.right) {
      const [low, high] = said.right.interval.map((share) => Math.round(100 * share));
      parts.push(make("p", { textContent: `${said.right.count} of ${said.right.total} pictures are told right when they are tested without themselves. So expect ${low} to ${high} of 100.` }));
    }
    parts.push(said.lines.length
      ? make("ul", {}, ...said.lines.map((line) => make("li", { textContent: line })))
      : make("p", { textContent: "The classes are well told apart." }));
    place.replaceChildren(...parts);
  } catch (error) { place.replaceChildren(make("p", { textContent: error.message })); }
}

function draw() {
  byId("list").replaceChildren(...state.classes.map(card));
}

function card(one) {
  const shots = one.shots.map((shot, place) => {
    const button = make("button", { type: "button" }, make("img", { src: `/api/shots/${shot.id}.jpg`, alt: `Picture ${place + 1} of ${one.name}`, loading: "lazy" }));
    button.addEventListener("click", () => open(one, shot.id));
    return make("li", {}, button);
  });
  const told = one.by_name ? "by its name alone" : plural(one.shots.length, "picture");
  const forget = make("button", { type: "button", textContent: "Forget" });
  forget.addEventListener("click", () => act(() => send("DELETE", "/api/classes" + query({ name: one.name })), `“${one.name}” is forgotten.`));
  const row = make("div", { className: "row" });
  if (!one.told_from && !one.by_name) row.append(...renaming(one), ...strength(one));
  row.append(forget);
  const change = make("details", {}, make("summary", { textContent: "Change" }), row);
  return make("li", {}, make("h3", {}, make("span", { textContent: one.name }), make("span", { className: "hint", textContent: told })),
    make("ul", { className: "shots" }, ...shots), change);
}

function renaming(one) {
  const field = make("input", { value: one.name, maxLength: 512, autocomplete: "off", ariaLabel: `New name of ${one.name}` });
  const save = make("button", { type: "button", textContent: "Rename", disabled: true });
  field.addEventListener("input", () => { save.disabled = !field.value.trim() || field.value.trim() === one.name; });
  save.addEventListener("click", () => {
    const to = field.value.trim();
    act(() => send("PATCH", "/api/classes", { name: one.name, to }), `“${one.name}” is now called “${to}”.`);
  });
  return [field, save];
}

function strength(one) {
  const slider = make("input", { type: "range", min: 0, max: 1, step: 0.05, value: one.strength });
  slider.addEventListener("change", () => act(() => send("PATCH", "/api/classes", { name: one.name, strength: Number(slider.value) }), `The name “${one.name}” now counts ${slider.value}.`));
  return [make("label", { className: "slider", title: "How much the name counts beside the pictures" }, "Name counts", slider)];
}

function open(one, shot) {
  chosen = { name: one.name, shot };
  byId("shot-picture").src = `/api/shots/${shot}.jpg`;
  byId("shot-picture").alt = `Picture of ${one.name}`;
  byId("shot-name").textContent = one.name;
  byId("move-to").value = "";
  byId("move").hidden = Boolean(one.told_from);
  byId("shot").showModal();
}
