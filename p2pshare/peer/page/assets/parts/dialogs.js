/** Dialogs, confirmations, menus and toasts. Dialogs are native: the browser keeps the focus inside and gives it back. */

import { classes, html, render, useEffect, useId, useLayoutEffect, useReducer, useRef, useState } from "../lib/ui.js";
import { t } from "../lib/texts.js";
import { Button, IconButton } from "./controls.js";
import { Icon } from "./icons.js";

const FIRST_FIELD = '.dialog-body :is(textarea, select, input:not([type="checkbox"], [type="radio"], [readonly]))';

/** A modal dialog. Its first field gets the focus, or what has `autofocus`. `onClose()` is called by Escape, the close button and a click beside it. `wide` for content that needs room. */
export function Dialog({ title, children, actions, onClose, wide = false, className }) {
  const base = useRef(null);
  const id = useId();
  const before = useRef(null);
  useLayoutEffect(() => {
    const dialog = base.current;
    before.current = document.activeElement;
    dialog.showModal();
    if (!dialog.querySelector("[autofocus]") && matchMedia("(pointer: fine)").matches) dialog.querySelector(FIRST_FIELD)?.focus();
    return () => {
      dialog.close(); // as long as it is open, the rest of the page is inert and takes no focus
      if (before.current?.isConnected) before.current.focus({ preventScroll: true });
    };
  }, []);
  const beside = (event) => {
    if (event.target !== base.current) return;
    const box = base.current.getBoundingClientRect();
    const isInside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!isInside) onClose();
  };
  const cancel = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${base} class=${classes("dialog", wide && "wide", className)} aria-labelledby=${id} onCancel=${cancel} onMouseDown=${beside}>
    <div class="dialog-head"><h2 id=${id}>${title}</h2><${IconButton} icon="close" label=${t("common.close")} onClick=${onClose} /></div>
    <p class="unseen live" role="status"></p>
    <div class="dialog-body">${children}</div>
    ${actions && html`<div class="dialog-actions">${actions}</div>`}
  </dialog>`;
}

/** A question before something that cannot be undone; `onConfirm` may return a promise. */
export function Confirm({ title, children, confirm, kind = "danger", onConfirm, onClose }) {
  const [isBusy, setBusy] = useState(false);
  const run = async () => {
    setBusy(true);
    try {
      await onConfirm();
      onClose();
    } finally {
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose} actions=${html`
    <${Button} autofocus onClick=${onClose}>${t("common.cancel")}<//><${Button} kind=${kind} busy=${isBusy} onClick=${run}>${confirm}<//>`}>${children}<//>`;
}

/**
 * A button with a menu. `items`: a list of {label, icon?, onClick, kind?, href?, disabled?}, `null` is a line between groups.
 * Arrow keys move, Escape closes, letters jump.
 */
export function Menu({ label, icon = "more", items, text, className }) {
  const [isOpen, setOpen] = useState(false);
  const button = useRef(null);
  const list = useRef(null);
  const id = useId();
  const entries = () => [...list.current.querySelectorAll('[role="menuitem"]:not([aria-disabled="true"])')];

  useLayoutEffect(() => {
    if (!isOpen) return undefined;
    list.current.showPopover();
    place(list.current, button.current);
    entries()[0]?.focus();
    const shut = () => setOpen(false);
    addEventListener("resize", shut);
    return () => removeEventListener("resize", shut);
  }, [isOpen]);

  const close = (giveBack = true) => {
    setOpen(false);
    if (giveBack) button.current?.focus();
  };
  const pressed = (event) => {
    const all = entries();
    const at = all.indexOf(document.activeElement);
    const aims = { ArrowDown: (at + 1) % all.length, ArrowUp: (at - 1 + all.length) % all.length, Home: 0, End: all.length - 1 };
    if (event.key in aims) all[aims[event.key]]?.focus();
    else if (event.key === "Escape") close();
    else if (event.key === "Tab") return close(false);
    else if (event.key.length === 1 && event.key !== " ") {
      const rest = [...all.slice(at + 1), ...all.slice(0, at + 1)];
      rest.find((entry) => entry.textContent.trim().toLowerCase().startsWith(event.key.toLowerCase()))?.focus();
    } else return undefined;
    event.preventDefault();
    event.stopPropagation();
    return undefined;
  };
  const opening = (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      setOpen(true);
    }
  };
  const run = (item) => {
    close();
    item.onClick?.();
  };
  return html`<span class=${classes("menu", className)}>
    <button ref=${button} type="button" class=${text ? "button plain" : "icon-button"} aria-haspopup="menu" aria-expanded=${String(isOpen)} aria-controls=${isOpen ? id : undefined}
      aria-label=${text ? undefined : label} title=${text ? undefined : label} onClick=${() => setOpen(!isOpen)} onKeyDown=${opening}>
      ${text && html`<span>${text}</span>`}<${Icon} name=${text ? "down" : icon} size=${text ? 16 : 20} /></button>
    ${isOpen && html`<div ref=${list} id=${id} class="menu-list" popover="auto" role="menu" aria-label=${label} onKeyDown=${pressed}
      onToggle=${(event) => event.newState === "closed" && setOpen(false)}>
      ${items.map((item, index) => item === null
        ? html`<div key=${index} role="separator"></div>`
        : item.href
          ? html`<a key=${index} role="menuitem" tabindex="-1" class="menu-item" href=${item.href} download=${item.download} onClick=${() => close()}>${item.icon && html`<${Icon} name=${item.icon} size=${18} />`}<span>${item.label}</span></a>`
          : html`<button key=${index} type="button" role="menuitem" tabindex="-1" class=${classes("menu-item", item.kind)} aria-disabled=${item.disabled ? "true" : undefined}
              onClick=${() => item.disabled || run(item)}>${item.icon && html`<${Icon} name=${item.icon} size=${18} />`}<span>${item.label}</span></button>`)}
    </div>`}
  </span>`;
}

// Below the button, or above it if there is no room; within the window.
function place(list, button) {
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = list;
  const rtl = getComputedStyle(button).direction === "rtl";
  const left = rtl ? at.left : at.right - width;
  const below = at.bottom + 4;
  list.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
  list.style.top = `${below + height > innerHeight - 8 ? Math.max(8, at.top - height - 4) : below}px`;
}

const TOAST_MS = 6000;
const TOASTS_MAX = 4;
let toasts = [];
let tell = () => {};

/** Show a short message, and let screen readers say it. `kind`: "info", "good", "bad"; `action`: {label, onClick}. */
export function toast(text, { kind = "info", action = null } = {}) {
  const one = { text, kind, action, id: Math.random() };
  toasts = [...toasts, one].slice(-TOASTS_MAX);
  tell();
  announce(text);
  setTimeout(() => dismiss(one), action ? 2 * TOAST_MS : TOAST_MS);
}

function dismiss(one) {
  toasts = toasts.filter((other) => other !== one);
  tell();
}

/** The place of the toasts, in the frame of the page; in the top layer, so that a dialog does not hide them. */
export function Toasts() {
  const [, update] = useReducer((count) => count + 1, 0);
  const base = useRef(null);
  useEffect(() => {
    tell = update;
    return () => (tell = () => {});
  }, []);
  useLayoutEffect(() => {
    if (base.current.matches(":popover-open")) base.current.hidePopover();
    if (toasts.length > 0) base.current.showPopover();
  }, [toasts]);
  return html`<div ref=${base} class="toasts" popover="manual" role="region" aria-label=${t("common.messages")}>${toasts.map((one) => html`<div key=${one.id} class=${classes("toast", one.kind)}>
    <span>${one.text}</span>
    ${one.action && html`<${Button} kind="quiet" onClick=${() => { dismiss(one); one.action.onClick(); }}>${one.action.label}<//>`}
    <${IconButton} icon="close" label=${t("common.close")} size=${16} onClick=${() => dismiss(one)} />
  </div>`)}</div>`;
}

/** Let a screen reader say a text, without showing it; in the dialog if one is open, because the rest of the page is inert then. */
export function announce(text) {
  const region = [...document.querySelectorAll("dialog[open] .live")].at(-1) ?? document.getElementById("live");
  if (!region) return;
  region.textContent = "";
  setTimeout(() => (region.textContent = text), 50);
}

/** Show a dialog from outside of components: show((close) => html`<${Confirm} … onClose=${close} />`). */
export function show(make) {
  const place_ = document.createElement("div");
  document.body.append(place_);
  const close = () => {
    render(null, place_);
    place_.remove();
  };
  render(make(close), place_);
  return close;
}
