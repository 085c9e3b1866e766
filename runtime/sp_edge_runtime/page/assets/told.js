// What was done, said in a line of the page, with a button that takes it back while it is the last change.

import { query, send } from "./api.js";
import { make } from "./dom.js";

let version = 0; // of the bank

export function update(state) {
  version = state.bank_version;
  for (const button of document.querySelectorAll("button.undo")) {
    if (Number(button.dataset.version) !== version) replace(button.parentElement, [...button.parentElement.children].filter((one) => one !== button));
  }
}

// `undone` is called after the change was taken back; without it there is nothing to take back.
export function tell(place, text, { undone = null, more = [] } = {}) {
  const parts = [make("p", { textContent: text })];
  if (undone) {
    const button = make("button", { type: "button", className: "undo", textContent: "Undo" });
    button.dataset.version = version;
    button.addEventListener("click", async () => {
      try {
        await send("POST", "/api/undo" + query({ version: button.dataset.version }));
        tell(place, "Taken back.");
      } catch (error) { tell(place, error.message); }
      await undone();
    });
    parts.push(button);
  }
  replace(place, [...parts, ...more]);
}

// Who was at a button that goes stays at its line, with the keyboard, too.
function replace(place, parts) {
  const within = place.contains(document.activeElement);
  place.replaceChildren(...parts);
  if (within) place.focus();
}
