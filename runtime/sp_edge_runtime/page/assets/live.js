// The first tab: what the camera sees, and how it is taught.

import { get, query, send, upload } from "./api.js";
import { byId, leftOut, make, percent, plural, resembling, show } from "./dom.js";
import * as region from "./region.js";
import * as told from "./told.js";

const MOST = 50; // pictures in one request
const LONGEST = 3000; // milliseconds of holding that count
let state = null;
let source = 0;
let newest = {};
let pending = [];
let began = 0;
let timer = 0;
let refresh = () => {};
let connection = 0;
let looking = 0;
let busy = false;

const name = () => byId("name").value.trim();

export function begin(changed) {
  refresh = changed;
  region.begin(changed, (error) => tell(error.message, { bad: true }));
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
  byId("files").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
  byId("alone").addEventListener("click", () => run(() => send("POST", "/api/names", { name: name() })));
  byId("negative").addEventListener("click", () => teach(1000, { negative: true, name: byId("negative").dataset.name }));
  byId("sees").addEventListener("change", view);
  document.addEventListener("paste", (event) => add(event.clipboardData.files));
  document.addEventListener("dragover", (event) => { event.preventDefault(); byId("view").classList.add("over"); });
  document.addEventListener("dragleave", () => byId("view").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    byId("view").classList.remove("over");
    add(event.dataTransfer.files);
  });
}

export function shown(yes) { visible(yes && !document.hidden); }

function visible(yes) {
  const image = byId("picture");
  clearInterval(looking);
  if (!state?.sources.length) return; // it shows what was chosen
  if (!yes) {
    image.removeAttribute("src");
    return;
  }
  if (byId("sees").checked) {
    looking = setInterval(look, 700);
    look();
  } else {
    const address = `/api/sources/${source}/live.mjpeg?${connection}`;
    if (!image.src.endsWith(address)) image.src = address;
  }
}

// After a lost connection, the browser asks for the picture only under another address.
export function again() {
  connection += 1;
  view();
}

const view = () => shown(!byId("live").hidden);

function look() {
  const wanted = name() || newest[source]?.name || "";
  const asked = state.shows_names && wanted ? { name: wanted, t: Date.now() } : { t: Date.now() };
  byId("picture").src = `/api/sources/${source}/seen.jpg` + query(asked);
}

export function update(now) {
  const first = state === null;
  state = now;
  source = Math.min(source, Math.max(0, state.sources.length - 1));
  const some = state.sources.length > 0;
  if (some) show(byId("picture"), true);
  const size = state.sources[source]?.size;
  byId("view").style.setProperty("--aspect", size ? size[0] / size[1] : "");
  preview();
  show(byId("seeing"), some);
  show(byId("looking"), some);
  show(byId("alone"), state.names_alone);
  byId("names").replaceChildren(...state.classes.filter((one) => !one.told_from).map((one) => make("option", { value: one.name })));
  sources();
  trouble();
  cards();
  mode();
  if (first) view();
  asked();
}

export function result(found) {
  newest[found.id] = found;
  if (found.id === source) {
    say();
    trouble();
    if (state) region.box(found, state.sources[source], byId("sees").checked);
  }
}

function say() {
  const found = newest[source];
  show(byId("said"), Boolean(found) && state?.classes.length > 0);
  if (!found) return;
  const unknown = found.label === "unknown";
  byId("label").textContent = found.label;
  byId("confidence").textContent = unknown
    ? resembling(found.name, state?.classes)
    : percent(found.smoothed ? found.smoothed.confidence : found.confidence);
  for (const card of byId("cards").children) card.classList.toggle("seen", card.dataset.name === found.label);
  const negative = byId("negative");
  show(negative, state?.sources.length > 0);
  negative.disabled = unknown;
  negative.dataset.name = found.label;
  negative.textContent = unknown ? "Wrong: this is not that" : `Wrong: this is not “${found.label}”`;
}

// Without a camera, the picture that was chosen last is shown.
function preview() {
  if (state.sources.length) return;
  const last = pending.at(-1);
  const image = byId("picture");
  show(image, Boolean(last));
  show(byId("empty"), !last);
  byId("view").classList.toggle("blank", !last);
  if (last) image.src = last.address;
  else image.removeAttribute("src");
  newest = { 0: last?.found };
  say();
}

function sources() {
  const place = byId("sources");
  show(place, state.sources.length > 1);
  place.replaceChildren(...state.sources.map((one) => {
    const button = make("button", { type: "button", textContent: one.name });
    button.setAttribute("aria-pressed", one.id === source);
    button.addEventListener("click", () => { source = one.id; sources(); say(); trouble(); view(); });
    return button;
  }));
}

function trouble() {
  const one = state?.sources[source];
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
  const some = state.classes.filter((one) => !one.told_from);
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

// What the model makes of the name, while it is typed.
let question = 0;
async function asked() {
  const mine = ++question;
  const wanted = name();
  byId("alone").disabled = !wanted;
  if (!wanted) {
    byId("hint").textContent = state?.sources.length && !state.classes.length ? "Show the camera one thing, in the middle of the picture." : "";
    return;
  }
  await new Promise((go) => setTimeout(go, 250));
  if (mine !== question) return;
  try {
    const known = await get("/api/names" + query({ name: wanted }));
    if (mine !== question) return;
    byId("hint").textContent = known.taught ? "Known already: this adds pictures."
      : !known.encodable ? "The model has no word for this name. Choose another one."
      : known.readable ? "The model knows this word: it helps." : "The model does not know this word. The pictures decide.";
    byId("alone").disabled = known.taught || !known.encodable;
  } catch { byId("hint").textContent = ""; }
}

// The main button: holds with a camera, and teaches chosen pictures where there are some.
function mode() {
  const some = state.sources.length > 0;
  const what = pending.length ? `Teach ${plural(pending.length, "picture")}` : "Hold to teach";
  if (!began && !busy) byId("hold-text").textContent = what;
  show(byId("hold"), some || pending.length > 0);
  byId("choose").classList.toggle("main", !some && !pending.length);
  show(byId("pending"), pending.length > 0);
}

function ready() {
  if (name()) return true;
  tell("First type what it is.", { bad: true });
  byId("name").focus();
  return false;
}

function press() {
  if (began || busy || !ready()) return;
  if (pending.length) return;
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
  if (pending.length) { if (name()) teach(0); return; }
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
  if (pending.length && !event.repeat) release();
}

function teach(held, more = {}) {
  const wanted = { name: name(), negative: false, force: false, ...more };
  if (!wanted.name) { ready(); return; }
  const files = more.files || pending;
  if (files.length && !wanted.negative) {
    const form = new FormData();
    for (const file of files) form.append("files", file.file);
    form.append("name", wanted.name);
    form.append("force", wanted.force);
    run(() => upload("/api/pictures", form), () => teach(0, { ...more, files, force: true }), clear);
  } else if (state.sources.length) {
    const seconds = Math.min(held, LONGEST) / 1000;
    run(() => send("POST", "/api/teach", { name: wanted.name, negative: wanted.negative, force: wanted.force, source, seconds }),
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
    tell(error.message + (Object.keys(error.reasons || {}).length ? ". Try again." : ""), { bad: true, anyway: Object.keys(error.reasons || {}).length ? anyway : null });
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

function tell(text, { bad = false, undo = false, anyway = null } = {}) {
  byId("told").classList.toggle("bad", bad);
  const more = [];
  if (anyway) {
    const button = make("button", { type: "button", textContent: "Teach it anyway", id: "anyway" });
    button.addEventListener("click", anyway);
    more.push(button);
  }
  told.tell(byId("told"), text, { undone: undo ? refresh : null, more });
}

// Pictures that were dropped, pasted or chosen wait here for a name.
async function add(files) {
  const images = [...files].filter((one) => one.type.startsWith("image/"));
  const taken = images.slice(0, MOST - pending.length);
  if (images.length < files.length) tell("Only pictures can be taught. The other files are left out.", { bad: true });
  else if (taken.length < images.length) tell(`At most ${MOST} pictures at once. The others are left out.`, { bad: true });
  else if (taken.length) byId("told").replaceChildren();
  for (const file of taken) {
    const address = URL.createObjectURL(file);
    const label = make("p", { className: "hint" });
    const away = make("button", { type: "button" }, make("img", { src: address, alt: `Leave out ${file.name}`, title: "Leave it out" }));
    const item = { file, address };
    const row = make("li", {}, away, label);
    away.addEventListener("click", () => { pending = pending.filter((one) => one !== item); row.remove(); preview(); URL.revokeObjectURL(address); mode(); });
    pending.push(item);
    byId("pending").append(row);
    recognize(item, label);
  }
  mode();
  preview();
  if (pending.length && !name()) byId("name").focus();
}

async function recognize(item, label) {
  const file = item.file;
  if (!state.classes.length) return;
  for (let tried = 0; tried < 5; tried++) {
    try {
      const found = await upload("/api/classify", file, { "Content-Type": file.type });
      item.found = found;
      preview();
      label.textContent = found.label;
      label.title = found.unknown ? resembling(found.name, state.classes) : percent(found.confidence);
      return;
    } catch (error) {
      if (error.status !== 429) { label.textContent = "unreadable"; return; }
      await new Promise((go) => setTimeout(go, 400 * (tried + 1)));
    }
  }
}

function clear() {
  const before = pending;
  pending = [];
  byId("pending").replaceChildren();
  mode();
  preview();
  for (const one of before) URL.revokeObjectURL(one.address);
}
