/** Keeps what is selected in a folder while its entries arrive, are filtered and are read again. */

import { announce } from "../../parts/index.js";
import { t } from "../../lib/texts.js";
import { useEffect, useReducer, useRef } from "../../lib/ui.js";
import { NOTHING, placeOf, restrict } from "./selection.js";

const ANNOUNCE_MS = 500; // a selection that rests as long is told to screen readers
const FOLDERS_MAX = 200; // whose last entry is remembered

const lastEntries = new Map(); // from "person/path" to the name of the entry that had the keyboard

/** Remember from which entry a folder was left; `key` is "person/path". */
export function remember(key, name) {
  lastEntries.delete(key);
  if (lastEntries.size >= FOLDERS_MAX) lastEntries.delete(lastEntries.keys().next().value);
  lastEntries.set(key, name);
}

/**
 * Return `{selection, select, reveal, turn}` for the sight of a folder.
 *
 * `select(change)` takes a function from the present selection to the next one; `reveal` is the same, and `turn` changes with it, for a list that
 * then scrolls to the active entry.
 */
export function useSelection(sight, key) {
  const [, render] = useReducer((count) => count + 1, 0);
  const model = useRef({ selection: NOTHING, sight, turn: 0, remembered: lastEntries.get(key) ?? null }).current;

  // After a new read ids mean other entries: what was selected is found by name. After a filter only what is shown stays selected.
  if (sight !== model.sight) {
    model.selection = sight.generation === model.sight.generation ? restrict(model.selection, sight) : renamed(model.selection, model.sight, sight);
    model.sight = sight;
  }
  const select = (change) => {
    model.selection = change(model.selection);
    render();
  };
  const reveal = (change) => {
    model.turn += 1;
    select(change);
  };

  useEffect(() => { // back in a folder: the entry from which it was left
    if (model.remembered === null || sight.order.length === 0) return;
    const id = sight.entries.findIndex((entry) => entry.name === model.remembered);
    if (id < 0 || placeOf(id, sight) < 0) return;
    model.remembered = null;
    reveal((now) => ({ ...now, active: id }));
  }, [sight]);

  const count = model.selection.chosen.size;
  const told = useRef(0);
  useEffect(() => {
    if (count === told.current) return undefined;
    const timer = setTimeout(() => {
      told.current = count;
      announce(t("browse.selected", { n: count }));
    }, ANNOUNCE_MS);
    return () => clearTimeout(timer);
  }, [count]);
  return { selection: model.selection, select, reveal, turn: model.turn };
}

function renamed({ chosen, active, anchor }, before, now) {
  const nameOf = (id) => (id === null ? null : before.entries[id]?.name ?? null);
  const names = new Set([...chosen].map(nameOf));
  const [activeName, anchorName] = [nameOf(active), nameOf(anchor)];
  const found = { chosen: new Set(), active: null, anchor: null };
  now.entries.forEach(({ name }, id) => {
    if (names.has(name)) found.chosen.add(id);
    if (name === activeName) found.active = id;
    if (name === anchorName) found.anchor = id;
  });
  return restrict(found, now);
}
