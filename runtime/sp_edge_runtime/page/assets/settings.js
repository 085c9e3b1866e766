// The last tab: the threshold and what it would do, and the bank's file.

import { get, query, send, upload } from "./api.js";
import { byId, make, plural, show } from "./dom.js";

let state = null;
let refresh = () => {};
let visible = false;
let question = 0;
let opened = null;
let conflict = "";

export function begin(changed) {
  refresh = changed;
  byId("which").addEventListener("change", start);
  byId("value").addEventListener("input", effect);
  byId("apply").addEventListener("click", () => apply(Number(byId("value").value)));
  byId("automatic").addEventListener("click", () => apply(null));
  byId("bank-file").addEventListener("change", (event) => { compare(event.target.files[0]); event.target.value = ""; });
  byId("merge").addEventListener("click", () => take("merge"));
  byId("replace").addEventListener("click", () => take("replace"));
  byId("forget-file").addEventListener("click", () => close());
  byId("back").addEventListener("click", async () => {
    try { await send("POST", "/api/undo"); told("Taken back."); } catch (error) { told(error.message); }
    await refresh();
  });
}

export function shown(yes) {
  visible = yes;
  if (yes && state) draw();
}

export function update(now) {
  const same = state?.bank_version === now.bank_version && state?.recent === now.recent;
  state = now;
  byId("about").textContent = `${state.model}, ${state.device}`;
  if (visible && !same) draw();
}

function draw() {
  const before = byId("which").value;
  const names = state.classes.filter((one) => !one.told_from).map((one) => one.name);
  byId("which").replaceChildren(make("option", { value: "", textContent: "every class" }), ...names.map((name) => make("option", { value: name, textContent: name })));
  byId("which").value = names.includes(before) ? before : "";
  for (const id of ["which", "value", "apply", "automatic"]) byId(id).disabled = !names.length;
  start();
  history();
}

const about = () => (byId("which").value ? { name: byId("which").value } : {});

// The slider begins at what counts now.
async function start() {
  if (!state.classes.length) { byId("effect").textContent = "Nothing is taught yet."; return; }
  const found = await get("/api/threshold" + query({ value: 0, ...about() }));
  byId("value").value = found.now;
  effect();
}

async function effect() {
  const mine = ++question;
  const value = Number(byId("value").value);
  byId("at").textContent = value.toFixed(2);
  const found = await get("/api/threshold" + query({ value, ...about() }));
  if (mine !== question) return;
  const images = (numbers) => numbers.slice(-24).map((number) => make("li", {}, make("img", { src: `/api/recent/${number}.jpg`, alt: "", loading: "lazy" })));
  byId("accepted").replaceChildren(...images(found.accepted));
  byId("refused").replaceChildren(...images(found.refused));
  if (!found.share) { byId("effect").textContent = "No kept picture looks like this yet."; return; }
  const [low, high] = found.share.interval.map((one) => Math.round(100 * one));
  byId("effect").textContent = `Of ${plural(found.share.total, "kept picture")}, ${found.share.count} would be recognized and ${found.refused.length} would be unknown (recognized: ${low} to ${high} % in the long run).`;
}

async function apply(value) {
  try {
    await send("PUT", "/api/threshold", { ...about(), value });
    byId("applied").textContent = value === null ? "The device chooses." : "In use.";
  } catch (error) { byId("applied").textContent = error.message; }
  await refresh();
}

async function history() {
  try {
    const { undoable } = await get("/api/bank/history");
    byId("back").disabled = !undoable;
    byId("back").textContent = undoable ? `Undo the last change (${undoable} left)` : "Nothing to undo";
  } catch (error) { told(error.message); }
}

async function compare(file) {
  if (!file) return;
  try {
    const found = await upload("/api/bank/compare", file, { "Content-Type": "application/octet-stream" });
    opened = file;
    conflict = found.conflict;
    byId("difference-list").replaceChildren(...found.classes.map((one) => make("li", { textContent: words(one) })));
    byId("differences").textContent = !found.classes.length ? "The file holds the same as this device."
      : conflict ? "The file differs, and some classes do not go together. Adding it keeps what is set here." : "The file differs:";
    show(byId("compared"), true);
    told("");
  } catch (error) { told(error.message); }
}

function words(one) {
  if (one.change === "added") return `“${one.name}” is only in the file (${plural(one.shots.new, "picture")})`;
  if (one.change === "removed") return `“${one.name}” is only here (${plural(one.shots.old, "picture")})`;
  const parts = [];
  if (one.shots_added) parts.push(`${plural(one.shots_added, "picture")} more in the file`);
  if (one.shots_removed) parts.push(`${plural(one.shots_removed, "picture")} only here`);
  if (one.threshold.old !== one.threshold.new) parts.push("another threshold");
  if (one.strength.old !== one.strength.new) parts.push("another weight of the name");
  if (one.prompt) parts.push("another meaning of the name");
  return `“${one.name}”: ${parts.join(", ")}`;
}

async function take(how) {
  const more = how === "merge" && conflict ? { prefer: "ours" } : {};
  try {
    await upload("/api/bank" + query({ how, ...more }), opened, { "Content-Type": "application/octet-stream" });
    told(how === "merge" ? "Added." : "In use.");
    close();
  } catch (error) { told(error.message); }
  await refresh();
}

function close() {
  opened = null;
  show(byId("compared"), false);
}

function told(text) { byId("bank-told").textContent = text; }
