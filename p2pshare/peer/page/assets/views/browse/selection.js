/**
 * What is selected in a list, and where the keyboard is, without the document.
 *
 * A selection is a value: `chosen` is a Set of ids, `active` the id that has the keyboard, `anchor` the id from which Shift extends. Functions
 * return a new value. They get the *sight*: `order`, the ids as they are shown, and `places`, the place of each id in it.
 */

export const NOTHING = { chosen: new Set(), active: null, anchor: null };

const NOWHERE = 0xffffffff;

/** Return the place at which an id is shown, or -1. */
export function placeOf(id, { places }) {
  const place = id === null ? undefined : places[id];
  return place === undefined || place === NOWHERE ? -1 : place;
}

/** Select one entry only. */
export const only = (id) => ({ chosen: new Set([id]), active: id, anchor: id });

/** Add an entry, or take it away. */
export function toggle({ chosen }, id) {
  const next = new Set(chosen);
  if (!next.delete(id)) next.add(id);
  return { chosen: next, active: id, anchor: id };
}

/** Select from the anchor to an entry; with `isAdding`, what was selected stays so. */
export function extend(selection, id, sight, { isAdding = false } = {}) {
  const anchor = placeOf(selection.anchor, sight) < 0 ? id : selection.anchor;
  const [one, other] = [placeOf(anchor, sight), placeOf(id, sight)];
  const range = sight.order.subarray(Math.min(one, other), Math.max(one, other) + 1);
  const chosen = new Set(isAdding ? selection.chosen : []);
  for (const each of range) chosen.add(each);
  return { chosen, active: id, anchor };
}

/** Move the keyboard to an entry; what is selected stays. */
export const move = ({ chosen }, id) => ({ chosen, active: id, anchor: id });

/** Select all that is shown. */
export const all = ({ active, anchor }, { order }) => ({ chosen: new Set(order), active, anchor });

/** Select nothing. */
export const none = ({ active }) => ({ chosen: new Set(), active, anchor: active });

/** Return the selection after a click with the mouse: plain, with Shift, with Ctrl or Cmd, or both. */
export function click(selection, id, sight, { shiftKey = false, ctrlKey = false, metaKey = false }) {
  if (shiftKey) return extend(selection, id, sight, { isAdding: ctrlKey || metaKey });
  return ctrlKey || metaKey ? toggle(selection, id) : only(id);
}

/** Return what is left of a selection of things that are shown. */
export function restrict(selection, sight) {
  const chosen = new Set();
  for (const id of selection.chosen) if (placeOf(id, sight) >= 0) chosen.add(id);
  const kept = (id) => (placeOf(id, sight) < 0 ? null : id);
  return { chosen, active: kept(selection.active), anchor: kept(selection.anchor) };
}

const PAUSE_MS = 800; // after which letters begin a new word

/** Letters that were typed quickly one after the other. The same letter again goes to the next name that begins with it. */
export class TypedLetters {
  constructor() {
    this.text = "";
    this.last = -Infinity;
  }

  /** Whether a word is being typed, so that a space belongs to it. */
  isOpen(nowMs) {
    return this.text !== "" && nowMs - this.last < PAUSE_MS;
  }

  /** Add a letter; return the beginning of a name, and whether to look from behind the present one on. */
  add(letter, nowMs) {
    this.text = this.isOpen(nowMs) ? this.text + letter : letter;
    this.last = nowMs;
    const isRepeated = [...this.text].every((each) => each === letter);
    return { text: isRepeated ? letter : this.text, isNext: isRepeated || this.text.length === letter.length };
  }
}
