/** How this user looks at files: list or grid, and by what they are sorted. Kept by the browser for all people and folders. */

import { useState } from "../../lib/ui.js";

const KEY = "p2pshare.browse";
const USUAL = { layout: "list", by: "name", isDescending: false };
const CHOICES = { layout: ["list", "grid"], by: ["name", "size", "time"], isDescending: [true, false] };

/** Return the preferences and a function that changes some of them. */
export function usePreferences() {
  const [preferences, setPreferences] = useState(read);
  const change = (some) => {
    const next = { ...preferences, ...some };
    setPreferences(next);
    try {
      localStorage.setItem(KEY, JSON.stringify(next));
    } catch { /* a browser that keeps nothing still shows files */ }
  };
  return [preferences, change];
}

/** Return the preferences after a click on the head of a column: the same one turns around; sizes and times begin with the largest. */
export function sortedBy(by, preferences) {
  if (by === preferences.by) return { isDescending: !preferences.isDescending };
  return { by, isDescending: by !== "name" };
}

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY)) ?? {};
    return Object.fromEntries(Object.entries(USUAL).map(([name, value]) => [name, CHOICES[name].includes(kept[name]) ? kept[name] : value]));
  } catch {
    return USUAL;
  }
}
