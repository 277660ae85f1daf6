/** One entry of a folder, as a row of the list or as a cell of the grid. Rows hold no controls: they are options of a list box. */

import { ago, bytes, date, t } from "../../lib/texts.js";
import { html } from "../../lib/ui.js";
import { visible } from "../../parts/index.js";
import { splitName } from "./kinds.js";
import { Thumbnail } from "./thumbnail.js";

/** A name that is shortened before its extension, so that the type of a file can always be read. */
function FileName({ name }) {
  const [stem, end] = splitName(name);
  return html`<bdi class="browse-name" title=${visible(name)}><span class="stem">${visible(stem)}</span>${end && html`<span class="end">${visible(end)}</span>`}</bdi>`;
}

const Check = () => html`<span class="browse-check" aria-hidden="true"></span>`;
const typeOf = (entry) => (entry.kind === "folder" ? "folder" : entry.type);
const TypeText = ({ type }) => html`<span class="unseen">, ${t(`browse.types.${type}`)}</span>`;

/** A row: mark, picture, name, size and time. */
export function Row({ person, path, entry }) {
  return html`<div class="browse-row">
    <${Check} />
    <span class="browse-open"><${Thumbnail} person=${person} path=${path} entry=${entry} size=${22} /><${FileName} name=${entry.name} /><${TypeText} type=${typeOf(entry)} /></span>
    <span class="browse-size">${entry.kind === "file" ? bytes(entry.bytes) : ""}</span>
    <${Time} time=${entry.modified} />
  </div>`;
}

/** A cell: picture above the name. */
export function Cell({ person, path, entry }) {
  return html`<div class="browse-cell">
    <${Check} />
    <span class="browse-open"><${Thumbnail} person=${person} path=${path} entry=${entry} size=${44} /></span>
    <span class="browse-open caption"><${FileName} name=${entry.name} /><${TypeText} type=${typeOf(entry)} /></span>
    <span class="browse-size">${entry.kind === "file" ? bytes(entry.bytes) : t("browse.types.folder")}</span>
  </div>`;
}

function Time({ time }) {
  if (time === null || time === undefined) return html`<span class="browse-time"></span>`;
  return html`<span class="browse-time"><time dateTime=${isoTime(time)}>${date(time, { dateStyle: "medium" })}</time></span>`;
}

function isoTime(time) {
  const found = new Date(time * 1000);
  return Number.isNaN(found.getTime()) ? undefined : found.toISOString();
}

/** Return when a file was changed, as a sentence part: "3 Nov 2026, 10:15 (27 days ago)". */
export const changedText = (time) => t("browse.changed", { date: date(time), ago: ago(time) });
