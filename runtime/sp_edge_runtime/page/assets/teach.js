// Teaching under the first tab: a name, a button to hold, and what came of it.

import { get, patiently, query, send, upload } from "./api.js";
import * as chosen from "./chosen.js";
import { byId, leftOut, make, plural, show } from "./dom.js";
import { name, now } from "./now.js";
import * as told from "./told.js";

const LONGEST = 3000; // milliseconds of holding that count
let began = 0;
let timer = 0;
let busy = false;
let question = 0;
let refresh = () => {};

export function begin(changed) {
  refresh = changed;
  let entered = false; // the name of the last thing gives way to that of the next one
  byId("name").addEventListener("pointerdown", () => { entered = document.activeElement !== byId("name"); });
  byId("name").addEventListener("click", () => { if (entered) byId("name").select(); });
  byId("name").addEventListener("input", asked);
  byId("teach").addEventListener("submit", (event) => { event.preventDefault(); teach(0); });
  const hold = byId("hold");
  hold.addEventListener("pointerdown", (event) => { if (event.button === 0) { hold.setPointerCapture(event.pointerId); press(); } });
  hold.addEventListener("pointerup", release);
  hold.addEventListener("pointercancel", stop);
  hold.addEventListener("click", (event) => { if (!event.detail) teach(0); }); // by Enter, or for a screen reader
  hold.addEventListener("contextmenu", (event) => event.preventDefault());
  document.addEventListener("keydown", key);
  document.addEventListener("keyup", (event) => { if (event.code === "Space" && began) { event.preventDefault(); release(); } });
  byId("alone").addEventListener("click", () => run(() => send("POST", "/api/names", { name: name() })));
  byId("negative").addEventListener("click", () => teach(1000, { negative: true, name: byId("negative").dataset.name }));
}

export function update() {
  show(byId("alone"), now.state.names_alone);
  byId("names").replaceChildren(...now.state.classes.filter((one) => !one.told_from).map((one) => make("option", { value: one.name })));
  mode();
  asked();
}

// What the model makes of the name, while it is typed.
async function asked() {
  const mine = ++question;
  const wanted = name();
  byId("alone").disabled = !wanted;
  if (!wanted) {
    byId("hint").textContent = now.state?.sources.length && !now.state.classes.length ? "Show the camera one thing, in the middle of the picture." : "";
    return;
  }
  await new Promise((go) => setTimeout(go, 250));
  if (mine !== question) return;
  try {
    const known = await patiently(() => get("/api/names" + query({ name: wanted })));
    if (mine !== question) return;
    byId("hint").textContent = known.taught ? "Known already: this adds pictures."
      : !known.encodable ? "The model has no word for this name. Choose another one."
      : known.readable ? "The model knows this word: it helps." : "The model does not know this word. The pictures decide.";
    byId("alone").disabled = known.taught || !known.encodable;
  } catch { if (mine === question) byId("hint").textContent = ""; }
}

// The main button: holds with a camera, and teaches chosen pictures where there are some.
export function mode() {
  const some = now.state.sources.length > 0;
  const pending = chosen.files().length;
  if (!began && !busy) byId("hold-text").textContent = pending ? `Teach ${plural(pending, "picture")}` : "Hold to teach";
  show(byId("hold"), some || pending > 0);
  byId("choose").classList.toggle("main", !some && !pending);
  show(byId("pending"), pending > 0);
}

function ready() {
  if (name()) return true;
  tell("First type what it is.", { bad: true });
  byId("name").focus();
  return false;
}

function press() {
  if (began || busy || !ready() || chosen.files().length) return;
  began = performance.now();
  byId("told").replaceChildren();
  byId("hold").classList.add("holding");
  byId("hold-text").textContent = "Looking… move it a little";
  timer = setTimeout(release, LONGEST);
}

function stop() {
  clearTimeout(timer);
  began = 0;
  byId("hold").classList.remove("holding");
  mode();
}

function release() {
  if (busy) return;
  if (chosen.files().length) { if (name()) teach(0); return; }
  if (!began) return;
  const held = performance.now() - began;
  stop();
  teach(held);
}

function key(event) {
  if (event.code !== "Space" || byId("live").hidden) return;
  const target = event.target;
  if (target !== document.body && target !== byId("hold")) return;
  event.preventDefault();
  if (!event.repeat) press();
  if (chosen.files().length && !event.repeat) release();
}

function teach(held, more = {}) {
  const wanted = { name: name(), negative: false, force: false, ...more };
  if (!wanted.name) { ready(); return; }
  const files = more.files || chosen.files();
  if (files.length && !wanted.negative) {
    const form = new FormData();
    for (const file of files) form.append("files", file.file);
    form.append("name", wanted.name);
    form.append("force", wanted.force);
    run(() => upload("/api/pictures", form), () => teach(0, { ...more, files, force: true }), chosen.clear);
  } else if (now.state.sources.length) {
    const seconds = Math.min(held, LONGEST) / 1000;
    run(() => send("POST", "/api/teach", { name: wanted.name, negative: wanted.negative, force: wanted.force, source: now.source, seconds }),
      () => teach(held, { ...more, force: true }));
  } else {
    tell("Choose a picture first.", { bad: true });
  }
}

async function run(work, anyway, after = () => {}) {
  if (busy) return;
  busy = true;
  byId("hold").setAttribute("aria-disabled", true); // it keeps the focus
  byId("hold-text").textContent = "Learning…";
  try {
    const taught = await work();
    after();
    await refresh();
    tell(learned(taught), { undo: true });
  } catch (error) {
    const some = Object.keys(error.reasons || {}).length > 0;
    tell(error.message + (some ? ". Try again." : ""), { bad: true, anyway: some ? anyway : null });
  } finally {
    busy = false;
    byId("hold").removeAttribute("aria-disabled");
    mode();
  }
}

function learned(taught) {
  const left = leftOut(taught.refused);
  const unlike = taught.unlike && taught.readable ? " Nothing in the picture looks like its name." : "";
  if (taught.readable === null) return `Noted: it is ${taught.name}. ${left}`;
  if (!taught.taken) return `Learned “${taught.name}” by its name alone.`;
  return `Learned “${taught.name}” from ${plural(taught.taken, "picture")}. ${left}${unlike}`;
}

export function tell(text, { bad = false, undo = false, anyway = null } = {}) {
  byId("told").classList.toggle("bad", bad);
  const more = [];
  if (anyway) {
    const button = make("button", { type: "button", textContent: "Teach it anyway", id: "anyway" });
    button.addEventListener("click", anyway);
    more.push(button);
  }
  told.tell(byId("told"), text, { undone: undo ? refresh : null, more });
}
