/** Dialogs, confirmations and toasts. Dialogs are native: the browser keeps the focus inside and gives it back. */

import { classes, html, render, useEffect, useId, useLayoutEffect, useReducer, useRef, useState } from "../lib/ui.js";
import { restoreFocus } from "../lib/focus.js";
import { t } from "../lib/texts.js";
import { Button, IconButton } from "./controls.js";

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
      else restoreFocus();
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

/** A question before something that cannot be undone; `onConfirm` may return a promise. `decline` is the other answer, where "Cancel" would be unclear. */
export function Confirm({ title, children, confirm, decline, kind = "danger", onConfirm, onClose }) {
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
    <${Button} autofocus onClick=${onClose}>${decline ?? t("common.cancel")}<//><${Button} kind=${kind} busy=${isBusy} onClick=${run}>${confirm}<//>`}>${children}<//>`;
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
  expire(one, action ? 2 * TOAST_MS : TOAST_MS);
}

// A toast stays while the pointer or the focus is on one of them.
function expire(one, ms) {
  setTimeout(() => (document.querySelector(".toast:is(:hover, :focus-within)") ? expire(one, TOAST_MS) : dismiss(one)), ms);
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
    const isOpen = base.current.matches(":popover-open");
    if (isOpen && (toasts.length === 0 || !base.current.contains(document.activeElement))) base.current.hidePopover(); // and again, to be above a dialog
    if (toasts.length > 0 && !base.current.matches(":popover-open")) base.current.showPopover();
  }, [toasts]);
  return html`<div ref=${base} class="toasts" popover="manual" role="region" aria-label=${t("common.messages")}>${toasts.map((one) => html`<div key=${one.id} class=${classes("toast", one.kind)}>
    <span>${one.text}</span>
    ${one.action && html`<${Button} kind="quiet" onClick=${() => { dismiss(one); one.action.onClick(); }}>${one.action.label}<//>`}
    <${IconButton} icon="close" label=${t("common.close")} size=${16} onClick=${() => dismiss(one)} />
  </div>`)}</div>`;
}

/** Let a screen reader say a text, without showing it; in the dialog if one is open, because the rest of the page is inert then. */
export function announce(text) {
  if (!text) return;
  said.push(text);
  if (said.length > 1) return; // what comes at once is said together, so that nothing is lost
  setTimeout(() => {
    const all = said.splice(0).slice(-SAID_MAX).join(" ");
    const region = [...document.querySelectorAll("dialog[open] .live")].at(-1) ?? document.getElementById("live");
    region.textContent = "";
    setTimeout(() => (region.textContent = all), SAID_MS);
  }, SAID_MS);
}

const said = [];
const SAID_MS = 50; // a region that changes at once is not read
const SAID_MAX = 5; // texts

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
