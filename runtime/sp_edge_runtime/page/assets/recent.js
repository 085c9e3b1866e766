// The third tab: frames that were kept, and filing them under a class.

import { get, send } from "./api.js";
import { byId, leftOut, make, plural, resembling, show } from "./dom.js";
import * as told from "./told.js";

let refresh = () => {};
let visible = false;
let chosen = new Set();
let known = "";
let classes = [];
const WHY = { first: "new", change: "a change", unsure: "unsure", different: "different" };

export function begin(changed) {
  refresh = changed;
  byId("file").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = byId("file-name").value.trim();
    if (name) file({ name });
  });
  byId("file-name").addEventListener("input", buttons);
  byId("file-not").addEventListener("click", () => file({}));
  byId("file-drop").addEventListener("click", async () => {
    try {
      await send("POST", "/api/recent/drop", { numbers: [...chosen] });
      tell(`${plural(chosen.size, "picture")} thrown away.`);
    } catch (error) { tell(error.message); }
    await draw();
  });
}

export function shown(yes) {
  visible = yes;
  if (yes) draw();
}

export function update(state) {
  classes = state.classes;
  const now = `${state.recent} ${state.bank_version}`;
  if (visible && now !== known) draw();
  known = now;
}

async function draw() {
  const kept = await get("/api/recent");
  const there = new Set(kept.map((one) => one.number));
  chosen = new Set([...chosen].filter((number) => there.has(number)));
  show(byId("recent-none"), !kept.length);
  show(byId("file"), kept.length > 0);
  byId("kept").replaceChildren(...kept.map((one) => {
    const like = one.label === "unknown" ? resembling(one.name, classes) : "";
    const when = new Date(1000 * one.time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const button = make("button", { type: "button" }, make("img", { src: `/api/recent/${one.number}.jpg`, alt: "", loading: "lazy" }),
      make("span", { title: one.label }, one.label), make("small", { textContent: [like, WHY[one.why], when].filter(Boolean).join(", ") }));
    button.setAttribute("aria-pressed", chosen.has(one.number));
    button.addEventListener("click", () => {
      if (!chosen.delete(one.number)) chosen.add(one.number);
      button.setAttribute("aria-pressed", chosen.has(one.number));
      buttons();
    });
    return make("li", {}, button);
  }));
  buttons();
}

function buttons() {
  const some = chosen.size > 0;
  byId("file-it").disabled = !some || !byId("file-name").value.trim();
  byId("file-not").disabled = byId("file-drop").disabled = !some;
}

async function file(how) {
  try {
    const gain = await send("POST", "/api/recent/file", { numbers: [...chosen], ...how });
    const parts = [`${plural(gain.taken, "picture")} filed. ${leftOut(gain.refused)}`];
    parts.push(gain.changed ? `${plural(gain.changed, "kept picture")} now ${gain.changed === 1 ? "has" : "have"} another label.` : "No kept picture changes its label.");
    if (gain.after) parts.push(`Told right without themselves: ${share(gain.after)}${gain.before ? `, before ${share(gain.before)}` : ""}.`);
    chosen.clear();
    byId("file-name").value = "";
    await refresh();
    tell(parts.join(" "), true);
  } catch (error) { tell(error.message); }
  await draw();
}

const share = (one) => `${one.count} of ${one.total}`;

const tell = (text, undo = false) => told.tell(byId("gain"), text, { undone: undo ? refresh : null });
