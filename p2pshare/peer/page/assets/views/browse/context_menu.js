/** A menu at a place of the window, for a right click or the menu key. */

import { classes, html, useLayoutEffect, useRef } from "../../lib/ui.js";
import { Icon } from "../../parts/index.js";

const MARGIN = 8; // px between the menu and the edge of the window

/** `at` is `{x, y}`; `items` are as for `Menu`; `onClose()` is called when the menu has closed, before the action of an item. */
export function ContextMenu({ at, items, label, onClose }) {
  const list = useRef(null);
  const before = useRef(document.activeElement);
  const entries = () => [...list.current.querySelectorAll('[role="menuitem"]')];

  useLayoutEffect(() => {
    const menu = list.current;
    menu.showPopover();
    menu.style.left = `${Math.max(MARGIN, Math.min(at.x, innerWidth - menu.offsetWidth - MARGIN))}px`;
    menu.style.top = `${Math.max(MARGIN, Math.min(at.y, innerHeight - menu.offsetHeight - MARGIN))}px`;
    entries()[0]?.focus();
    addEventListener("resize", onClose);
    return () => removeEventListener("resize", onClose);
  }, []);

  const close = () => {
    before.current?.focus?.({ preventScroll: true });
    onClose();
  };
  const pressed = (event) => {
    const all = entries();
    const now = all.indexOf(document.activeElement);
    const aims = { ArrowDown: (now + 1) % all.length, ArrowUp: (now - 1 + all.length) % all.length, Home: 0, End: all.length - 1 };
    if (event.key in aims) all[aims[event.key]].focus();
    else if (event.key === "Escape" || event.key === "Tab") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const run = (item) => {
    close();
    item.onClick();
  };
  return html`<div ref=${list} class="menu-list" popover="auto" role="menu" aria-label=${label} onKeyDown=${pressed}
    onContextMenu=${(event) => event.preventDefault()} onToggle=${(event) => event.newState === "closed" && onClose()}>
    ${items.map((item, index) => item === null
      ? html`<div key=${index} role="separator"></div>`
      : html`<button key=${index} type="button" role="menuitem" tabindex="-1" class=${classes("menu-item", item.kind)} onClick=${() => run(item)}>
          ${item.icon && html`<${Icon} name=${item.icon} size=${18} />`}<span>${item.label}</span></button>`)}
  </div>`;
}
