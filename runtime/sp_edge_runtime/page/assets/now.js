// What the first tab knows at this moment.

import { byId } from "./dom.js";

export const now = {
  state: null, // of the device
  source: 0, // number of the one that is looked at
  newest: {}, // result of each source, by its number
};

export const find = (id) => now.state?.sources.find((one) => one.id === id);

export const source = () => find(now.source);

// The source whose picture is shown: that of a region is its camera's.
export const camera = () => find(source()?.of ?? now.source);

export const name = () => byId("name").value.trim();
