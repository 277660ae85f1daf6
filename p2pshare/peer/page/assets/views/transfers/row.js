/** One transfer: direction, title, person, path, progress, what is done and why it waits, and its buttons. */

import { href } from "../../lib/route.js";
import { rich, t } from "../../lib/texts.js";
import { classes, html } from "../../lib/ui.js";
import { Icon, IconButton, Name, Progress } from "../../parts/index.js";
import { PathTag } from "../people/marks.js";
import { ICONS, isOver } from "./actions.js";
import { Title, factsOf, partOf, titleOf } from "./words.js";

const SHORTCUTS = { pause: "P", go_on: "P", retry: "R", cancel: "Delete", remove: "Delete" };

export function Row({ job, place, now, onAction, onDetails }) {
  const title = titleOf(job);
  const person = html`<a href=${href("people", job.name)}><${Name}>${job.name}<//></a>`;
  const part = partOf(job);
  const isBad = job.state === "failed" || (job.state === "waiting" && job.why !== "queue" && job.why !== "connecting");
  return html`<div class=${classes("transfer", job.state, job.direction)} data-job=${job.id} data-state=${job.state}>
    <span class="transfer-way"><${Icon} name=${job.direction === "down" ? "download" : "upload"} label=${t(`transfers.directions.${job.direction}`)} /></span>
    <div class="transfer-head">
      <button type="button" class="transfer-title" onClick=${onDetails} aria-haspopup="dialog"><${Title} job=${job} /></button>
      <span class="transfer-person">${rich(job.direction === "down" ? "transfers.from" : "transfers.to", { name: person })}</span>
      ${job.path && html`<${PathTag} path=${job.path} withCarrier />`}
    </div>
    <div class="transfer-bar">${(!isOver(job) || job.state === "failed") && html`<${Progress} value=${job.state === "running" ? part : (part ?? 0)} label=${t("transfers.progress_of", { title })} state=${job.state} />`}</div>
    <p class=${classes("transfer-facts", isBad && "bad")}>${factsOf(job, place, now).map((fact, index) => html`${index > 0 && html`<span aria-hidden="true"> · </span>`}<span key=${index} class="fact">${fact}</span>${" "}`)}</p>
    <div class="transfer-actions">
      ${job.can.filter((action) => action in ICONS).map((action) => html`<${IconButton} key=${action} icon=${ICONS[action]} data-action=${action} label=${t(`transfers.actions.${action}`, { title })} aria-keyshortcuts=${SHORTCUTS[action]} onClick=${() => onAction(action)} />`)}
    </div>
  </div>`;
}
