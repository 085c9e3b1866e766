// Small helpers for the document.

export const byId = (id) => document.getElementById(id);

export function make(kind, properties = {}, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

export function show(element, visible) { element.hidden = !visible; }

export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

// Reason -> count of what was left out, in words.
export const leftOut = (refused) => Object.entries(refused).map(([why, count]) => `${count} left out: ${why}.`).join(" ");

// What an unknown thing is like; `classes` tell what was taught as none of a class.
export function resembling(name, classes = []) {
  const not = classes.find((one) => one.name === name)?.told_from;
  if (not) return `not “${not}”`;
  return name ? `most like ${name}` : "";
}

export const percent = (share) => `${Math.round(100 * share)} %`;
