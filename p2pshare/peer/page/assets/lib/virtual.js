/**
 * Lists and grids of any length: only the rows in sight are elements.
 *
 * The list has the height of all rows, and places the rows in sight in it. It scrolls with its nearest scrolling ancestor (`main`), so a view may have
 * a head above the list that scrolls away. A row that has the focus stays an element even if it is scrolled out of sight.
 *
 * Two kinds of rows:
 * - `role="listbox"` (the default): rows contain no controls. The list is one tab stop; arrow keys, Home, End, Page Up and Page Down move the
 *   active row (aria-activedescendant), Enter and double click open it, letters jump to a row if `textOf` is given.
 * - `role="list"`: rows contain buttons and links. One row is a tab stop, arrow keys move the focus between rows, Tab goes on into the row.
 *
 *     html`<${VirtualList} items=${people} keyOf=${(person) => person.name} rowHeight=${52} label=${t("people.title")}
 *       renderRow=${(person, index, { isActive }) => html`<${PersonRow} person=${person} />`} textOf=${(person) => person.name}
 *       onOpen=${(person) => go(href("people", person.name))} />`
 *
 * Rows are rendered again when `renderRow` is another function: let it be one whenever it shows more than its item, as an inline function is.
 * For items that are not in memory give `count` and `itemAt(index)` in place of `items`; `onRange(first, last)` tells which are wanted.
 * A list below others in a view gives `moved`, any value that changes when it may have moved although nothing scrolled.
 * When the view sets `active` itself, it changes `reveal` (any value) to bring that row into sight. `rowHeight` is in pixels at the browser's default font size, and grows with the font.
 */

import { classes, html, useCallback, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "./ui.js";
import { isRightToLeft } from "./texts.js";

const OVERSCAN_PX = 280; // rows this far above and below those in sight are elements, too,
const REST_MS = 120; // once the list rests for as long after a jump; until then only those in sight are
const TYPE_AHEAD_MS = 800; // letters within as long are one word

/** A list of rows of equal height; see the module. */
export function VirtualList(properties) {
  return html`<${Virtual} ...${properties} columns=${1} />`;
}

/** A grid of cells of equal size: `cellWidth` is the least width of a cell, `rowHeight` its height, `gap` the space between them. */
export function VirtualGrid({ cellWidth, ...properties }) {
  const [columns, setColumns] = useState(1);
  const measure = useCallback(
    (width, scale, gap) => setColumns(Math.max(1, Math.floor((width + gap) / (cellWidth * scale + gap)))),
    [cellWidth],
  );
  return html`<${Virtual} ...${properties} columns=${columns} onWidth=${measure} />`;
}

function Virtual({
  items, count = items?.length ?? 0, itemAt = (index) => items[index], keyOf = (item, index) => index, rowHeight, gap = 0, columns, renderRow,
  label, labelledBy, role = "listbox", active, onActive, onOpen, onRowClick, onKeyDown, textOf, isSelected, multiselectable = false,
  onRange, onWidth, hrefOf, className, autoFocus = false, rowClass, reveal: revealed, moved,
}) {
  const base = useRef(null);
  const id = useId();
  const [scale, setScale] = useState(1);
  const [range, setRange] = useState(() => [0, Math.ceil(innerHeight / (rowHeight + gap))]); // a guess, until the list is there to be measured
  const [ownActive, setOwnActive] = useState(0);
  const activeIndex = Math.max(0, Math.min(count - 1, active ?? ownActive));
  const typed = useRef({ text: "", at: 0 });
  const wantsFocus = useRef(false);

  const step = (rowHeight + gap) * scale; // px from one row to the next
  const rowCount = Math.ceil(count / columns);
  const scroller = () => scrollingAncestor(base.current);

  const activate = useCallback((index, event = null) => {
    setOwnActive(index);
    onActive?.(index, event);
  }, [onActive]);

  // Which rows are in sight: after each scroll, and when the size of anything changes.
  // A scroll that leaves no row in sight, as a fling does in each frame, makes new rows of all: it makes as few as it can.
  const look = useRef(() => {});
  const rest = useRef(0);
  look.current = () => {
    if (!base.current) return;
    const view = scroller();
    const top = view.scrollTop - offsetIn(base.current, view);
    const rowsWithin = (more) => {
      const [first, last] = [Math.floor((top - more) / step), Math.ceil((top + view.clientHeight + more) / step)];
      return [Math.max(0, Math.min(first, rowCount)), Math.max(0, Math.min(last, rowCount))];
    };
    const seen = rowsWithin(0);
    const hasJumped = seen[0] < seen[1] && (seen[0] >= range[1] || seen[1] <= range[0]);
    const next = hasJumped ? seen : rowsWithin(OVERSCAN_PX);
    clearTimeout(rest.current);
    if (hasJumped) rest.current = setTimeout(() => look.current(), REST_MS);
    setRange((now) => (now[0] === next[0] && now[1] === next[1] ? now : next));
  };
  useLayoutEffect(() => {
    const view = scroller();
    const update = () => look.current();
    const measure = () => {
      const now = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
      setScale(now);
      onWidth?.(base.current.clientWidth, now, gap * now);
      update();
    };
    const sizes = new ResizeObserver(measure);
    view.addEventListener("scroll", update, { passive: true });
    sizes.observe(view);
    sizes.observe(base.current);
    measure();
    return () => {
      view.removeEventListener("scroll", update);
      sizes.disconnect();
    };
  }, [onWidth, gap]);
  useLayoutEffect(() => look.current(), [count, columns, step, moved]);
  useEffect(() => onRange?.(range[0] * columns, Math.min(count, range[1] * columns)), [range, columns, count]);
  useLayoutEffect(() => { // before anything is painted: keys that are pressed at once belong to the list
    if (autoFocus) base.current?.focus({ preventScroll: true });
  }, []);

  // Keep the active row in sight when a key moved it, and give it the focus in a list of controls.
  useLayoutEffect(() => {
    if (!wantsFocus.current) return;
    wantsFocus.current = false;
    reveal(base.current, scroller(), Math.floor(activeIndex / columns) * step, step);
    look.current();
    if (role === "list") base.current.querySelector(`[data-index="${activeIndex}"]`)?.focus({ preventScroll: true });
  }, [activeIndex, range]);

  useLayoutEffect(() => { // the view moved the active row itself
    if (revealed === undefined || count === 0) return;
    reveal(base.current, scroller(), Math.floor(activeIndex / columns) * step, step);
    look.current();
  }, [revealed]);

  const move = (index, event) => {
    event.preventDefault();
    const next = Math.max(0, Math.min(count - 1, index));
    wantsFocus.current = true;
    activate(next, event);
    if (next === activeIndex) {
      wantsFocus.current = false;
      reveal(base.current, scroller(), Math.floor(next / columns) * step, step);
    }
  };

  const pressed = (event) => {
    const inRow = event.target !== base.current && !event.target.hasAttribute?.("data-index");
    if (inRow || count === 0) return;
    onKeyDown?.(event, activeIndex);
    if (event.defaultPrevented) return;
    const page = Math.max(1, Math.floor(scroller().clientHeight / step) - 1) * columns;
    const forward = isRightToLeft() ? -1 : 1;
    const steps = { ArrowDown: columns, ArrowUp: -columns, PageDown: page, PageUp: -page };
    if (columns > 1) Object.assign(steps, { ArrowRight: forward, ArrowLeft: -forward });
    if (event.key in steps && !event.altKey) {
      const aim = activeIndex + steps[event.key];
      if (Math.abs(steps[event.key]) === columns && (aim < 0 || (aim >= count && Math.floor(activeIndex / columns) === rowCount - 1))) event.preventDefault();
      else move(aim, event);
    } else if (event.key === "Home") move(0, event);
    else if (event.key === "End") move(count - 1, event);
    else if (event.key === "Enter" && onOpen) {
      event.preventDefault();
      onOpen(itemAt(activeIndex), activeIndex, event);
    } else if (textOf && items && event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey) jump(event);
  };

  // Type-ahead: the next row whose text begins with the letters that were typed.
  const jump = (event) => {
    const now = event.timeStamp;
    const before = now - typed.current.at < TYPE_AHEAD_MS ? typed.current.text : "";
    const text = (before + event.key).toLowerCase();
    typed.current = { text, at: now };
    const letters = [...text].every((letter) => letter === text[0]) ? text[0] : text; // the same letter again goes to the next row
    const from = letters.length === 1 ? 1 : 0;
    for (let index = 0; index < count; index += 1) {
      const at = (activeIndex + from + index) % count;
      if (textOf(items[at]).toLowerCase().startsWith(letters)) {
        move(at, event);
        return;
      }
    }
  };

  const clicked = (event) => {
    const row = event.target.closest?.("[data-index]");
    if (!row || !base.current.contains(row)) return;
    const index = Number(row.dataset.index);
    activate(index, event);
    if (event.target.closest("a, button, input, select, textarea, label")) return;
    if (hrefOf && (event.ctrlKey || event.metaKey || event.type === "auxclick")) {
      if (event.type === "auxclick" && event.button !== 1) return;
      window.open(hrefOf(itemAt(index)), "_blank", "noopener");
    } else if (event.type === "click") onRowClick?.(itemAt(index), index, event);
  };
  const opened = (event) => {
    const row = event.target.closest?.("[data-index]");
    if (row && !onRowClick && onOpen && !event.target.closest("a, button, input")) onOpen(itemAt(Number(row.dataset.index)), Number(row.dataset.index), event);
  };

  const indices = useMemo(() => {
    const found = [];
    for (let index = range[0] * columns; index < Math.min(count, range[1] * columns); index += 1) found.push(index);
    if (count > 0 && (activeIndex < range[0] * columns || activeIndex >= range[1] * columns)) found.push(activeIndex);
    return found;
  }, [range, columns, count, activeIndex]);

  const isListbox = role === "listbox";
  const rowOf = (index) => {
    const item = itemAt(index);
    const isActive = index === activeIndex;
    const selected = isSelected?.(item, index) ?? false;
    const column = index % columns;
    return cached(index, [item, isActive, selected], () => html`<div
      key=${keyOf(item, index)} id=${`${id}-${index}`} class=${classes("virtual-row", isActive && "active", selected && "selected", rowClass?.(item, index))}
      data-row data-index=${index} role=${isListbox ? "option" : "listitem"} tabindex=${isListbox ? undefined : isActive ? 0 : -1}
      aria-setsize=${count} aria-posinset=${index + 1}
      aria-selected=${isListbox ? String(isSelected ? selected : isActive) : undefined}
      style=${{
        transform: `translateY(${Math.floor(index / columns) * step}px)`, height: `${rowHeight * scale}px`,
        insetInlineStart: columns > 1 ? `${(column * 100) / columns}%` : "0",
        inlineSize: columns > 1 ? `calc(${100 / columns}% - ${gap * scale * (1 - 1 / columns)}px)` : "100%",
        marginInlineStart: columns > 1 ? `${(gap * scale * column) / columns}px` : undefined,
      }}
    >${renderRow(item, index, { isActive, isSelected: selected })}</div>`);
  };
  const cached = useRowCache([renderRow, keyOf, rowClass, columns, step, rowHeight, count, role], indices);
  return html`<div
    ref=${base} class=${classes("virtual", className)} data-virtual role=${count > 0 ? role : undefined} tabindex=${isListbox && count > 0 ? 0 : undefined}
    aria-label=${count > 0 ? label : undefined} aria-labelledby=${count > 0 ? labelledBy : undefined} aria-multiselectable=${multiselectable ? "true" : undefined}
    aria-activedescendant=${isListbox && count > 0 ? `${id}-${activeIndex}` : undefined}
    style=${{ height: `${Math.max(0, rowCount * step - gap * scale)}px` }}
    onKeyDown=${pressed} onClick=${clicked} onAuxClick=${hrefOf ? clicked : undefined} onDblClick=${opened}
  >${indices.map(rowOf)}</div>`;
}

// Keeps the elements of rows between renders: a row whose element is the same object is not compared again, so a scroll costs only its new rows.
function useRowCache(shared, indices) {
  const kept = useRef({ shared: [], rows: new Map() });
  const before = shared.every((value, index) => Object.is(value, kept.current.shared[index])) ? kept.current.rows : new Map();
  const rows = new Map(); // of this render only, so that the cache stays as small as the view
  for (const index of indices) if (before.has(index)) rows.set(index, before.get(index));
  kept.current = { shared, rows };
  return (index, own, make) => {
    const old = rows.get(index);
    if (old && own.every((value, at) => Object.is(value, old.own[at]))) return old.element;
    const element = make();
    rows.set(index, { own, element });
    return element;
  };
}

/** Return the nearest ancestor that scrolls. */
export function scrollingAncestor(element) {
  for (let at = element?.parentElement; at; at = at.parentElement) {
    const { overflowY } = getComputedStyle(at);
    if (overflowY === "auto" || overflowY === "scroll") return at;
  }
  return document.scrollingElement;
}

function offsetIn(element, view) {
  const inside = view === document.scrollingElement ? 0 : view.getBoundingClientRect().top + view.clientTop;
  return element.getBoundingClientRect().top - inside + view.scrollTop;
}

// Scroll as little as needed; a head with `data-sticky` covers the top, a bar with `data-sticky-end` the bottom.
function reveal(list, view, top, height) {
  const from = offsetIn(list, view) + top;
  const covered = view.querySelector("[data-sticky]")?.offsetHeight ?? 0;
  const below = view.querySelector("[data-sticky-end]")?.offsetHeight ?? 0;
  if (from - covered < view.scrollTop) view.scrollTop = from - covered;
  else if (from + height + below > view.scrollTop + view.clientHeight) view.scrollTop = from + height + below - view.clientHeight;
}
