/** Buttons, fields, switches and small marks, with labels and states that a screen reader knows. */

import { classes, html, useEffect, useId, useRef, useState } from "../lib/ui.js";
import { bytes, percent, t } from "../lib/texts.js";
import { Icon } from "./icons.js";

/** A button. `kind`: "plain", "primary", "danger", "quiet"; `icon`: name of an icon; `busy` while its action runs; `href` makes it a link. */
export function Button({ kind = "plain", icon, busy = false, href, children, className, ...properties }) {
  const content = html`${icon && html`<${Icon} name=${icon} size=${18} />`}<span>${children}</span>`;
  const name = classes("button", kind, busy && "busy", className);
  if (href) return html`<a class=${name} href=${href} ...${properties}>${content}</a>`;
  return html`<button type="button" class=${name} aria-busy=${busy ? "true" : undefined} aria-disabled=${busy ? "true" : undefined}
    ...${properties} onClick=${busy ? undefined : properties.onClick}>${content}</button>`;
}

/** A button that is an icon; `label` is its name, and its tooltip. */
export function IconButton({ icon, label, size = 20, pressed, className, href, ...properties }) {
  const content = html`<${Icon} name=${icon} size=${size} />`;
  if (href) return html`<a class=${classes("icon-button", className)} href=${href} aria-label=${label} title=${label} ...${properties}>${content}</a>`;
  return html`<button type="button" class=${classes("icon-button", className)} aria-label=${label} title=${label}
    aria-pressed=${pressed === undefined ? undefined : String(pressed)} ...${properties}>${content}</button>`;
}

/** A name, a path or any other text from outside: it keeps its own direction, and control characters are visible. */
export function Name({ children, className }) {
  return html`<bdi class=${className}>${visible(String(children ?? ""))}</bdi>`;
}

// Controls, what reverses text, and what is shown as nothing. The joiners U+200C and U+200D stay: words and emoji need them.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb]/g;

/** Return a text with a visible mark for each control character, each character that reverses text or is invisible, and spaces without other text. */
export function visible(text) {
  const marked = text.replace(HIDDEN, "\ufffd");
  return marked.trim() === "" ? marked.replace(/./gsu, "\u2423") : marked;
}

/** A text of several lines from outside, such as a note; otherwise like `Name`. */
export function Lines({ children }) {
  return html`<bdi class="lines">${String(children ?? "").split("\n").map((line, index) => html`${index > 0 && html`<br />`}${line.trim() && visible(line)}`)}</bdi>`;
}

/** A labelled control. `children` is the control (with `id`), or give `value`, `onInput(text)` and attributes for an input. */
export function Field({ label, hint, error, value, onInput, children, type = "text", id: given, inputRef, hiddenLabel = false, ...attributes }) {
  const own = useId();
  const id = given ?? own;
  const control = useRef(null);
  useEffect(() => void (attributes.autofocus && control.current?.focus()), []); // browsers heed the attribute only while a page or a dialog opens
  const notes = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ") || undefined;
  return html`<div class=${classes("field", error && "wrong")}>
    <label for=${id} class=${hiddenLabel ? "unseen" : undefined}>${label}</label>
    ${children ?? html`<input ref=${inputRef ?? control} id=${id} type=${type} value=${value} onInput=${(event) => onInput(event.currentTarget.value)} aria-describedby=${notes}
      aria-invalid=${error ? "true" : undefined} ...${attributes} />`}
    ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
    ${error && html`<p class="hint error" id=${`${id}-error`} role="alert">${error}</p>`}
  </div>`;
}

/** A search field; `inputRef` gets the input. "/" in a view should focus it. */
export function Search({ label, value, onInput, inputRef, placeholder, ...attributes }) {
  const id = useId();
  return html`<div class="search" role="search">
    <label class="unseen" for=${id}>${label}</label>
    <${Icon} name="search" size=${18} />
    <input ref=${inputRef} id=${id} type="search" value=${value} placeholder=${placeholder ?? label} autocapitalize="none" autocorrect="off"
      autocomplete="off" spellcheck=${false} enterkeyhint="search" onInput=${(event) => onInput(event.currentTarget.value)} ...${attributes} />
  </div>`;
}

/** A choice of few, side by side: `options` is a list of {value, label, icon?}. */
export function Segments({ label, value, options, onChange }) {
  const name = useId();
  return html`<div class="segments" role="radiogroup" aria-label=${label}>
    ${options.map((option) => html`<label key=${option.value} class=${option.value === value ? "chosen" : ""} title=${option.label}>
      <input type="radio" name=${name} value=${option.value} checked=${option.value === value} onChange=${() => onChange(option.value)} />
      ${option.icon && html`<${Icon} name=${option.icon} size=${18} />`}
      <span class=${option.icon ? "unseen" : ""}>${option.label}</span>
    </label>`)}
  </div>`;
}

/** A drop-down: `options` is a list of {value, label, lang?}. */
export function Select({ label, value, options, onChange, hiddenLabel = false, ...attributes }) {
  const id = useId();
  return html`<div class="field">
    <label for=${id} class=${hiddenLabel ? "unseen" : undefined}>${label}</label>
    <select id=${id} onChange=${(event) => onChange(event.currentTarget.value)} ...${attributes}>
      ${options.map((option) => html`<option key=${option.value} value=${option.value} lang=${option.lang} selected=${option.value === value}>${option.label}</option>`)}
    </select>
  </div>`;
}

/** A switch that is on or off. */
export function Switch({ label, hint, checked, onChange, disabled = false }) {
  const id = useId();
  return html`<div class="switch-field"><label class="switch">
    <input type="checkbox" role="switch" checked=${checked} disabled=${disabled} aria-describedby=${hint ? id : undefined}
      onChange=${(event) => onChange(event.currentTarget.checked)} />
    <span class="track" aria-hidden="true"></span><span>${label}</span>
  </label>${hint && html`<p class="hint" id=${id}>${hint}</p>`}</div>`;
}

/** Progress: `value` from 0 to 1, null if unknown; `label` names what progresses. */
export function Progress({ value, label, state = "running" }) {
  const known = value !== null && value !== undefined && Number.isFinite(value);
  return html`<div class=${classes("progress", state, !known && "unknown")} role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax="100"
    aria-valuenow=${known ? Math.round(value * 100) : undefined} aria-valuetext=${known ? percent(value) : undefined}>
    <div style=${{ inlineSize: known ? `${Math.max(0, Math.min(1, value)) * 100}%` : undefined }}></div>
  </div>`;
}

/** A small mark. `kind`: "plain", "good", "warning", "bad", "accent". */
export function Tag({ kind = "plain", icon, children, title }) {
  return html`<span class=${classes("tag", kind)} title=${title}>${icon && html`<${Icon} name=${icon} size=${14} />`}<span>${children}</span></span>`;
}

/** A message in a view. `kind`: "info", "warning", "bad", "good"; `actions`: buttons. */
export function Notice({ kind = "info", children, actions, onClose }) {
  const icon = { info: "info", warning: "warning", bad: "warning", good: "check" }[kind];
  return html`<div class=${classes("notice", kind)} role=${kind === "bad" ? "alert" : undefined}>
    <${Icon} name=${icon} /><div class="notice-text">${children}</div>
    ${actions && html`<div class="notice-actions">${actions}</div>`}
    ${onClose && html`<${IconButton} icon="close" label=${t("common.close")} size=${18} onClick=${onClose} />`}
  </div>`;
}

/** What a view shows when it has nothing: why, and what to do. */
export function Empty({ icon = "info", title, children, actions }) {
  return html`<div class="empty"><span class="empty-icon"><${Icon} name=${icon} size=${32} /></span>
    <p class="empty-title">${title}</p>${children && html`<div class="empty-text">${children}</div>`}${actions && html`<div class="empty-actions">${actions}</div>`}</div>`;
}

/** Shown while something loads, after a moment, so that fast answers do not flicker. */
export function Loading({ label }) {
  return html`<div class="loading" role="status"><span class="spinner" aria-hidden="true"></span><span>${label ?? t("common.loading")}</span></div>`;
}

const HUES = 6;

/** The face of a person: the first letter on a colour of the name, and a lamp for presence ("online", "offline", "unknown" or none). */
export function Avatar({ name, presence, size = "m" }) {
  let hue = 0;
  for (const letter of name) hue = (hue * 31 + letter.codePointAt(0)) % 9973;
  return html`<span class=${classes("face", `hue${hue % HUES}`, `size-${size}`, presence)} aria-hidden="true">${[...name][0] ?? ""}</span>`;
}

/** A command for a terminal, with a button that copies it. */
export function Command({ text }) {
  return html`<div class="command"><code dir="ltr">${text}</code><${CopyButton} text=${text} /></div>`;
}

/** A button that copies a text. */
export function CopyButton({ text, label }) {
  const [isDone, setDone] = useState(false);
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    await copyText(text);
    setDone(true);
    timer.current = setTimeout(() => setDone(false), 2000);
  };
  return html`<${Button} icon=${isDone ? "check" : "copy"} className="copy" onClick=${copy}>${isDone ? t("common.copied") : (label ?? t("common.copy"))}<//>`;
}

/** Put a text on the clipboard, also on pages without the clipboard API (plain HTTP under a name). */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** A QR code from rows of "0" and "1", as one path of an SVG; always dark on light. The rows have the quiet zone. */
export function QrCode({ rows, label }) {
  const size = rows.length;
  const path = rows.flatMap((row, y) => [...row.matchAll(/1+/g)].map((run) => `M${run.index} ${y}h${run[0].length}v1h-${run[0].length}z`)).join("");
  return html`<svg class="qr" viewBox=${`0 0 ${size} ${size}`} role="img" aria-label=${label} shape-rendering="crispEdges"><rect width=${size} height=${size} /><path d=${path} /></svg>`;
}

/** A size in bytes, with the exact figure as its title. */
export function Size({ count }) {
  return html`<span class="size" title=${t("common.bytes", { n: count })}>${bytes(count)}</span>`;
}
