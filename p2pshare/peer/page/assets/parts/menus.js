/** Menus: behind a button, or at a place of the window. Arrow keys move, letters jump, Escape closes and gives the focus back. */

import { classes, html, useEffect, useId, useLayoutEffect, useRef, useState } from "../lib/ui.js";
import { Icon } from "./icons.js";

const MARGIN = 8; // px between a menu and the edge of the window
const GAP = 4; // px between a menu and its button

/** A button with a menu. `items`: a list of {label, icon?, onClick, kind?, href?, disabled?}, `null` is a line between groups. */
export function Menu({ label, icon = "more", items, text, className }) {
  const [isOpen, setOpen] = useState(false);
  const button = useRef(null);
  const wasOpen = useRef(false); // when the button was pressed: the browser has closed the menu before the click
  const id = useId();
  const close = (givesBack) => {
    setOpen(false);
    if (givesBack) button.current?.focus();
  };
  const clicked = (event) => setOpen(!(event.detail > 0 ? wasOpen.current : isOpen));
  const pressed = (event) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    setOpen(true);
  };
  return html`<span class=${classes("menu", className)}>
    <button ref=${button} type="button" class=${text ? "button plain" : "icon-button"} aria-haspopup="menu" aria-expanded=${String(isOpen)} aria-controls=${isOpen ? id : undefined}
      aria-label=${text ? undefined : label} title=${text ? undefined : label} onPointerDown=${() => (wasOpen.current = isOpen)} onClick=${clicked} onKeyDown=${pressed}>
      ${text && html`<span>${text}</span>`}<${Icon} name=${text ? "down" : icon} size=${text ? 16 : 20} /></button>
    ${isOpen && html`<${Items} id=${id} label=${label} items=${items} onPlace=${(list) => placeBelow(list, button.current)} onClose=${close} />`}
  </span>`;
}

/** A menu at the place `at`, {x, y} in the window, for a right click or the menu key; `onClose()` comes before the action of an item. */
export function ContextMenu({ at, items, label, onClose }) {
  const before = useRef(document.activeElement);
  const close = (givesBack) => {
    if (givesBack) before.current?.focus?.({ preventScroll: true });
    onClose();
  };
  return html`<${Items} label=${label} items=${items} onPlace=${(list) => put(list, at.x, at.y)} onClose=${close} />`;
}

// The list of a menu while it is open; `onClose(givesBack)` tells whether the focus goes back to where it was.
function Items({ id, label, items, onPlace, onClose: told }) {
  const list = useRef(null);
  const isOver = useRef(false);
  const onClose = (givesBack) => { // once: the browser tells of the end of the list, too
    if (isOver.current) return;
    isOver.current = true;
    told(givesBack);
  };
  const entries = () => [...list.current.querySelectorAll('[role="menuitem"]:not([aria-disabled="true"])')];

  useLayoutEffect(() => {
    list.current.showPopover();
    onPlace(list.current);
    entries()[0]?.focus();
  }, []);
  useEffect(() => {
    const shut = () => onClose(false);
    addEventListener("resize", shut);
    return () => removeEventListener("resize", shut);
  }, []);

  const pressed = (event) => {
    const all = entries();
    const now = all.indexOf(document.activeElement);
    const aims = { ArrowDown: (now + 1) % all.length, ArrowUp: (now - 1 + all.length) % all.length, Home: 0, End: all.length - 1 };
    if (event.key in aims) all[aims[event.key]]?.focus();
    else if (event.key === "Escape") onClose(true);
    else if (event.key === "Tab") {
      onClose(true); // the next control is that after the button
      return;
    } else if (event.key.length === 1 && event.key !== " ") {
      const rest = [...all.slice(now + 1), ...all.slice(0, now + 1)];
      rest.find((entry) => entry.textContent.trim().toLowerCase().startsWith(event.key.toLowerCase()))?.focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const run = (item) => {
    if (item.disabled) return;
    onClose(true);
    item.onClick?.();
  };
  const content = (item) => html`${item.icon && html`<${Icon} name=${item.icon} size=${18} />`}<span>${item.label}</span>`;
  const entry = (item, index) => {
    if (item === null) return html`<div key=${index} role="separator"></div>`;
    if (item.href) {
      return html`<a key=${index} role="menuitem" tabindex="-1" class="menu-item" href=${item.href} download=${item.download} onClick=${() => onClose(true)}>${content(item)}</a>`;
    }
    return html`<button key=${index} type="button" role="menuitem" tabindex="-1" class=${classes("menu-item", item.kind)} aria-disabled=${item.disabled ? "true" : undefined}
      onClick=${() => run(item)}>${content(item)}</button>`;
  };
  return html`<div ref=${list} id=${id} class="menu-list" popover="auto" role="menu" aria-label=${label} onKeyDown=${pressed}
    onContextMenu=${(event) => event.preventDefault()} onToggle=${(event) => event.newState === "closed" && onClose(false)}>${items.map(entry)}</div>`;
}

// Below the button, or above it if there is no room.
function placeBelow(list, button) {
  const at = button.getBoundingClientRect();
  const left = getComputedStyle(button).direction === "rtl" ? at.left : at.right - list.offsetWidth;
  const below = at.bottom + GAP;
  const isBelow = below + list.offsetHeight <= innerHeight - MARGIN;
  put(list, left, isBelow ? below : at.top - list.offsetHeight - GAP);
}

// Within the window.
function put(list, left, top) {
  list.style.left = `${Math.max(MARGIN, Math.min(left, innerWidth - list.offsetWidth - MARGIN))}px`;
  list.style.top = `${Math.max(MARGIN, Math.min(top, innerHeight - list.offsetHeight - MARGIN))}px`;
}
