// Where a part of the camera's picture lies on the page.

import { byId, show } from "./dom.js";

let size = null; // of the camera's frames, pixels

export function sized(found) { size = found || size; }

export const known = () => Boolean(size);

// X,Y,W,H as the device says it, in shares or pixels -> shares.
export function shares(region) {
  const [x, y, width, height] = region.split(",").map(Number);
  return Math.max(x, y, width, height) <= 1 ? [x, y, width, height] : pixels([x, y, width, height]);
}

export const pixels = ([x, y, width, height]) => [x / size[0], y / size[1], width / size[0], height / size[1]];

// The picture is fitted into its frame, in the middle.
function shown() {
  const view = byId("view");
  const scale = Math.min(view.clientWidth / size[0], view.clientHeight / size[1]);
  const [width, height] = [size[0] * scale, size[1] * scale];
  return { left: (view.clientWidth - width) / 2, top: (view.clientHeight - height) / 2, width, height };
}

// Where a pointer is, as shares of the picture.
export function share(event) {
  const frame = byId("view").getBoundingClientRect();
  const { left, top, width, height } = shown();
  const within = (value) => Math.min(1, Math.max(0, value));
  return [within((event.clientX - frame.left - left) / width), within((event.clientY - frame.top - top) / height)];
}

// Puts an element over a part of the picture: x, y, width and height as shares.
export function put(element, [x, y, width, height]) {
  const at = shown();
  element.style.left = `${at.left + x * at.width}px`;
  element.style.top = `${at.top + y * at.height}px`;
  element.style.width = `${width * at.width}px`;
  element.style.height = `${height * at.height}px`;
  show(element, true);
}
