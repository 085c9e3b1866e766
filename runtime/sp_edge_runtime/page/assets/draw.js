// Draws a box on the picture with the mouse, a finger or the keys, for the button that asks for one.

import { byId, show } from "./dom.js";
import * as place from "./place.js";

const STEP = 5; // hundredths that a key moves
const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

let drawing = null; // the button, while its box is drawn: { button, text, take }
let start = null;
let keyed = null; // the box that the keys change: x, y, width and height in hundredths of the frame

export function begin() {
  const view = byId("view");
  view.addEventListener("keydown", key);
  view.addEventListener("pointerdown", (event) => {
    if (!drawing) return;
    event.preventDefault();
    view.setPointerCapture(event.pointerId);
    start = place.share(event);
  });
  view.addEventListener("pointermove", (event) => { if (start) place.put(byId("drawn"), rectangle(start, place.share(event))); });
  view.addEventListener("pointerup", (event) => {
    if (!start) return;
    const box = rectangle(start, place.share(event));
    const { take } = drawing;
    end();
    if (box[2] > 0.02 && box[3] > 0.02) take(box);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") end(); });
}

// A click on the button begins, or ends without a box; `take` gets x, y, width and height as shares.
export function offer(button, take) {
  button.addEventListener("click", (event) => {
    const again = drawing?.button === button;
    end();
    if (again || !place.known()) return;
    if (byId("sees").checked) byId("sees").click(); // it shows a part, in which no other can be drawn
    drawing = { button, text: button.textContent, take };
    const say = event.detail ? "Draw a box on the picture" : "Arrows move the box, with Shift they size it, Enter takes it";
    button.textContent = byId("view").dataset.say = say;
    button.setAttribute("aria-pressed", true);
    byId("view").classList.add("drawing");
    byId("view").scrollIntoView({ block: "nearest" }); // on a phone, the button is far below it
    if (!event.detail) byKeys();
  });
}

function end() {
  if (!drawing) return;
  const { button, text } = drawing;
  drawing = start = keyed = null;
  show(byId("drawn"), false);
  if (document.activeElement === byId("view")) button.focus();
  byId("view").removeAttribute("tabindex");
  byId("view").classList.remove("drawing");
  button.setAttribute("aria-pressed", false);
  button.textContent = text;
}

// The keys begin with a box in the middle.
function byKeys() {
  keyed = [25, 25, 50, 50];
  byId("view").tabIndex = 0;
  byId("view").focus();
  place.put(byId("drawn"), shares());
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
    place.put(byId("drawn"), shares());
  } else if (event.key === "Enter") {
    const { take } = drawing;
    const taken = shares();
    end();
    take(taken);
  } else return;
  event.preventDefault();
}

const shares = () => keyed.map((one) => one / 100);

const rectangle = ([ax, ay], [bx, by]) => [Math.min(ax, bx), Math.min(ay, by), Math.abs(ax - bx), Math.abs(ay - by)];
