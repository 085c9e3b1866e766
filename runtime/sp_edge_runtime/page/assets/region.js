// What the network looks at, drawn over the picture, and choosing another part of it with the mouse, a finger or the keys.

import { send } from "./api.js";
import { byId, show } from "./dom.js";

const STEP = 5; // hundredths that a key moves
const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

let drawing = false;
let start = null;
let keyed = null; // the box that the keys change: x, y, width and height in hundredths of the frame
let size = null; // of the source's frames
let source = 0;
let refresh = () => {};
let refused = () => {};

export function begin(changed, failed) {
  refresh = changed;
  refused = failed;
  const view = byId("view");
  byId("draw").addEventListener("click", (event) => {
    draw(!drawing);
    if (drawing && !event.detail) byKeys();
  });
  view.addEventListener("keydown", key);
  byId("whole").addEventListener("click", () => set(null));
  view.addEventListener("pointerdown", (event) => {
    if (!drawing) return;
    event.preventDefault();
    view.setPointerCapture(event.pointerId);
    start = share(event);
  });
  view.addEventListener("pointermove", (event) => { if (start) place(byId("drawn"), rectangle(start, share(event))); });
  view.addEventListener("pointerup", (event) => {
    if (!start) return;
    const [x, y, width, height] = rectangle(start, share(event));
    draw(false);
    if (width > 0.02 && height > 0.02) set([x, y, width, height]);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") draw(false); });
  new ResizeObserver(() => show(byId("seen-box"), false)).observe(view);
}

// The box of a result, x, y, width and height in the frame's pixels.
export function box(found, state, hidden) {
  source = found.id;
  size = state.size || size;
  const visible = !hidden && Boolean(size) && Boolean(found.view);
  if (visible) {
    const [x, y, width, height] = found.view;
    place(byId("seen-box"), [x / size[0], y / size[1], width / size[0], height / size[1]]);
  }
  show(byId("seen-box"), visible);
}

function draw(on) {
  drawing = on && Boolean(size);
  if (drawing && byId("sees").checked) byId("sees").click(); // it shows a part, in which no other can be drawn
  start = keyed = null;
  show(byId("drawn"), false);
  if (document.activeElement === byId("view")) byId("draw").focus();
  byId("view").removeAttribute("tabindex");
  byId("view").classList.toggle("drawing", drawing);
  byId("draw").setAttribute("aria-pressed", drawing);
  byId("draw").textContent = drawing ? "Draw a box on the picture" : "Choose the part to look at";
}

// The keys begin with a box in the middle.
function byKeys() {
  keyed = [25, 25, 50, 50];
  byId("draw").textContent = "Arrows move the box, with Shift they size it, Enter takes it";
  byId("view").tabIndex = 0;
  byId("view").focus();
  place(byId("drawn"), shares());
}

function key(event) {
  if (!keyed) return;
  const step = ARROWS[event.key];
  if (step) {
    const within = (value, least, most) => Math.min(most, Math.max(least, value));
    const [x, y, width, height] = keyed;
    keyed = event.shiftKey
      ? [x, y, within(width + step[0], STEP, 100 - x), within(height + step[1], STEP, 100 - y)]
      : [within(x + step[0], 0, 100 - width), within(y + step[1], 0, 100 - height), width, height];
    place(byId("drawn"), shares());
  } else if (event.key === "Enter") {
    const taken = shares();
    draw(false);
    set(taken);
  } else return;
  event.preventDefault();
}

const shares = () => keyed.map((one) => one / 100);

// Where the picture lies within its frame: it is fitted into it, in the middle.
function shown() {
  const view = byId("view");
  const scale = Math.min(view.clientWidth / size[0], view.clientHeight / size[1]);
  const [width, height] = [size[0] * scale, size[1] * scale];
  return { left: (view.clientWidth - width) / 2, top: (view.clientHeight - height) / 2, width, height };
}

function share(event) {
  const frame = byId("view").getBoundingClientRect();
  const { left, top, width, height } = shown();
  const within = (value) => Math.min(1, Math.max(0, value));
  return [within((event.clientX - frame.left - left) / width), within((event.clientY - frame.top - top) / height)];
}

const rectangle = ([ax, ay], [bx, by]) => [Math.min(ax, bx), Math.min(ay, by), Math.abs(ax - bx), Math.abs(ay - by)];

function place(element, [x, y, width, height]) {
  const at = shown();
  element.style.left = `${at.left + x * at.width}px`;
  element.style.top = `${at.top + y * at.height}px`;
  element.style.width = `${width * at.width}px`;
  element.style.height = `${height * at.height}px`;
  show(element, true);
}

async function set(region) {
  try { await send("PUT", `/api/sources/${source}/region`, { region }); } catch (error) { refused(error); }
  await refresh();
}
