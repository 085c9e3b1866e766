// Pictures that were dropped, pasted or chosen: they wait for a name.

import { patiently, upload } from "./api.js";
import { byId, make, percent, resembling } from "./dom.js";
import { name, now } from "./now.js";

const MOST = 50; // pictures in one request
let pending = [];
let changed = () => {};
let tell = () => {};

export const files = () => pending;

// `after` is called whenever there are others; `say` with what cannot be taken, and with "" where all is well.
export function begin(after, say) {
  changed = after;
  tell = say;
  byId("files").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
  document.addEventListener("paste", (event) => add(event.clipboardData.files));
  document.addEventListener("dragover", (event) => { event.preventDefault(); byId("view").classList.add("over"); });
  document.addEventListener("dragleave", () => byId("view").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    byId("view").classList.remove("over");
    add(event.dataTransfer.files);
  });
}

function add(given) {
  const images = [...given].filter((one) => one.type.startsWith("image/"));
  const taken = images.slice(0, MOST - pending.length);
  if (images.length < given.length) tell("Only pictures can be taught. The other files are left out.");
  else if (taken.length < images.length) tell(`At most ${MOST} pictures at once. The others are left out.`);
  else if (taken.length) tell("");
  for (const file of taken) {
    const address = URL.createObjectURL(file);
    const label = make("p", { className: "hint" });
    const away = make("button", { type: "button" }, make("img", { src: address, alt: `Leave out ${file.name}`, title: "Leave it out" }));
    const item = { file, address };
    const row = make("li", {}, away, label);
    away.addEventListener("click", () => {
      pending = pending.filter((one) => one !== item);
      row.remove();
      changed();
      URL.revokeObjectURL(address);
    });
    pending.push(item);
    byId("pending").append(row);
    recognize(item, label);
  }
  changed();
  if (pending.length && !name()) byId("name").focus();
}

async function recognize(item, label) {
  if (!now.state.classes.length) return;
  try {
    const found = await patiently(() => upload("/api/classify", item.file, { "Content-Type": item.file.type }));
    item.found = found;
    changed();
    label.textContent = found.label;
    label.title = found.unknown ? resembling(found.name, now.state.classes) : percent(found.confidence);
  } catch (error) {
    if (error.status !== 429) label.textContent = "unreadable";
  }
}

export function clear() {
  const before = pending;
  pending = [];
  byId("pending").replaceChildren();
  changed();
  for (const one of before) URL.revokeObjectURL(one.address);
}
