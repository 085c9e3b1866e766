// The picture of the first tab: the camera's, or what the network sees of it.

import { picture, query } from "./api.js";
import { byId, show } from "./dom.js";
import { camera, name, now } from "./now.js";

let connection = 0;
let looking = 0;
let asked = 0;
let seen = ""; // address of what the network saw last

export function begin() { byId("sees").addEventListener("change", view); }

export function shown(yes) { visible(yes && !document.hidden); }

function visible(yes) {
  const image = byId("picture");
  clearInterval(looking);
  asked += 1;
  if (!now.state?.sources.length) return; // it shows what was chosen
  if (!yes) {
    image.removeAttribute("src");
    return;
  }
  if (byId("sees").checked) {
    looking = setInterval(look, 700);
    look();
  } else {
    const address = `/api/sources/${camera().id}/live.mjpeg?${connection}`;
    if (!image.src.endsWith(address)) image.src = address;
  }
}

// After a lost connection, the browser asks for the picture only under another address.
export function again() {
  connection += 1;
  view();
}

export const view = () => shown(!byId("live").hidden);

async function look() {
  const mine = ++asked;
  const wanted = name() || now.newest[now.source]?.name || "";
  const about = now.state.shows_names && wanted ? { name: wanted } : {};
  try {
    const found = URL.createObjectURL(await picture(`/api/sources/${now.source}/seen.jpg` + query(about)));
    if (mine === asked) byId("picture").src = found;
    URL.revokeObjectURL(mine === asked ? seen : found);
    if (mine === asked) seen = found;
  } catch { /* the last one stays: the device is busy, or there is none yet */ }
}

// Without a camera, the picture that was chosen last is shown.
export function preview(last) {
  const image = byId("picture");
  show(image, Boolean(last));
  show(byId("empty"), !last);
  byId("view").classList.toggle("blank", !last);
  if (last) image.src = last.address;
  else image.removeAttribute("src");
}
