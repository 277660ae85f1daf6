/**
 * The entries of a folder as a list or a grid: a list box of which one or more options are selected.
 *
 * Mouse: a click on the name or the picture opens, on the mark selects, elsewhere in the row selects only that row; Ctrl, Cmd and Shift as in
 * file managers; the right button opens a menu. Touch: a tap opens, or selects while something is selected; a long press selects.
 * Keys: those of `lib/virtual.js`, with Shift to extend; Space marks, Ctrl+A selects all, Escape nothing, letters jump, Backspace and Alt+Up go up,
 * the menu key opens the menu.
 */

import { isRightToLeft, t } from "../../lib/texts.js";
import { PHONE, classes, html, latinKey, useCallback, useMedia, useRef, useState } from "../../lib/ui.js";
import { VirtualGrid, VirtualList } from "../../lib/virtual.js";
import { ContextMenu } from "../../parts/index.js";
import { useLongPress } from "./long_press.js";
import { join } from "./paths.js";
import { Cell, Row } from "./rows.js";
import { thumbnailEpoch } from "./thumbnail.js";
import { TypedLetters, all, click, extend, move, none, only, placeOf, toggle } from "./selection.js";

const ROW_PX = 44;
const PHONE_ROW_PX = 56;
const CELL = { cellWidth: 168, rowHeight: 204, gap: 12 };
const PHONE_CELL = { cellWidth: 104, rowHeight: 150, gap: 8 };

let pressedBy = ""; // the kind of the last pointer, which the clicks of older browsers do not tell
addEventListener("pointerdown", (event) => (pressedBy = event.pointerType), { capture: true, passive: true });
const pointerOf = (event) => event.pointerType ?? pressedBy;

export function Entries({ person, path, sight, folder, preferences, selecting, isMarking, autoFocus, onOpen, onUp, menuItems }) {
  const isPhone = useMedia(PHONE);
  const { selection, select, reveal, turn } = selecting;
  const [menuAt, setMenuAt] = useState(null);
  const letters = useRef(null);
  letters.current ??= new TypedLetters();
  const searching = useRef(null);
  const { order, entries } = sight;
  const place = placeOf(selection.active, sight);

  const openMenu = (id, at) => {
    if (!selection.chosen.has(id)) select(() => only(id));
    setMenuAt(at);
  };
  const longPress = useLongPress((target) => {
    const row = target.closest?.("[data-index]");
    if (row) select((now) => toggle(now, order[Number(row.dataset.index)]));
  });

  const clicked = (entry, index, event) => {
    const id = order[index];
    const { target } = event;
    const isTouch = pointerOf(event) !== "mouse"; // a finger, a pen, or a screen reader
    if (target.closest(".browse-check") || (isTouch && (isMarking || selection.chosen.size > 0))) {
      select((now) => (event.shiftKey ? extend(now, id, sight, { isAdding: true }) : toggle(now, id)));
    } else if (event.shiftKey || event.ctrlKey || event.metaKey) select((now) => click(now, id, sight, event));
    else if (isTouch || target.closest(".browse-open")) onOpen(id);
    else select(() => only(id));
  };
  const moved = (index, event) => {
    if (event?.type !== "keydown") return;
    const anchored = (now) => (now.active === null ? { ...now, anchor: order[Math.max(0, place)] } : now);
    select((now) => (event.shiftKey ? extend(anchored(now), order[index], sight) : move(now, order[index])));
  };
  const search = async (letter, timeMs) => {
    const { text, isNext } = letters.current.add(letter, timeMs);
    const found = await folder.find(text, Math.max(0, place) + (isNext && place >= 0 ? 1 : 0));
    if (found < 0) return null;
    const id = folder.sight.order[found]; // by now entries may have another order
    reveal((now) => move(now, id));
    return id;
  };
  const find = (letter, timeMs) => { // Enter that follows at once means what is still searched for
    const own = search(letter, timeMs).finally(() => searching.current === own && (searching.current = null));
    searching.current = own;
  };
  const pressed = (event, index) => {
    const id = order[index];
    const isControl = event.ctrlKey || event.metaKey;
    const actions = {
      " ": () => (letters.current.isOpen(event.timeStamp) ? find(" ", event.timeStamp) : select((now) => (event.shiftKey ? extend(now, id, sight) : toggle(now, id)))),
      Escape: () => select(none),
      Backspace: onUp,
      ContextMenu: () => openMenu(id, placeOfRow(event.currentTarget, index)),
    };
    let action = null;
    if (isControl && latinKey(event) === "a") action = () => select((now) => (event.shiftKey ? none(now) : all(now, sight)));
    else if (event.altKey && event.key === "ArrowUp") action = onUp;
    else if (event.shiftKey && event.key === "F10") action = actions.ContextMenu;
    else if (isControl && event.key !== " ") return;
    else if (event.key === "Enter" && searching.current) action = () => searching.current.then((found) => onOpen(found ?? id));
    else if (event.key in actions) action = actions[event.key];
    else if (event.key.length === 1 && !["/", "?", "\u061f"].includes(event.key) && !event.altKey && !event.isComposing) action = () => find(event.key, event.timeStamp);
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  };
  const rightClicked = (event) => {
    const row = event.target.closest("[data-index]");
    if (!row) return;
    event.preventDefault();
    if (pointerOf(event) !== "touch") openMenu(order[Number(row.dataset.index)], { x: event.clientX, y: event.clientY });
  };

  const isGrid = preferences.layout === "grid";
  const Part = isGrid ? Cell : Row;
  const keyOf = useCallback((entry, index) => order[index], [order]);
  const renderRow = useCallback((entry) => html`<${Part} person=${person} path=${join(path, entry.name)} entry=${entry} />`, [Part, person, path, thumbnailEpoch()]);
  const shared = {
    count: order.length, itemAt: (index) => entries[order[index]], keyOf, renderRow, label: t("browse.list_label"), multiselectable: true,
    active: Math.max(0, place), onActive: moved, onOpen: (entry, index) => onOpen(order[index]), onRowClick: clicked, onKeyDown: pressed,
    isSelected: (entry, index) => selection.chosen.has(order[index]), autoFocus, reveal: turn || undefined,
  };
  return html`<div class=${classes("browse-entries", `as-${preferences.layout}`, (isMarking || selection.chosen.size > 0) && "is-selecting")} ...${longPress} onContextMenu=${rightClicked}>
    ${isGrid
      ? html`<${VirtualGrid} ...${shared} ...${isPhone ? PHONE_CELL : CELL} className="browse-grid" />`
      : html`<${VirtualList} ...${shared} rowHeight=${isPhone ? PHONE_ROW_PX : ROW_PX} className="browse-list" />`}
    ${menuAt && html`<${ContextMenu} at=${menuAt} label=${t("browse.menu")} onClose=${() => setMenuAt(null)}
      items=${[{ label: t("browse.open"), icon: "eye", onClick: () => onOpen(selection.active) }, null, ...menuItems()]} />`}
  </div>`;
}

function placeOfRow(list, index) {
  const box = (list.querySelector(`[data-index="${index}"]`) ?? list).getBoundingClientRect();
  return { x: isRightToLeft() ? box.right - 80 : box.left + 48, y: box.top + Math.min(box.height, ROW_PX) - 8 };
}
