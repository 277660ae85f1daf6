/** The head of a view: its one <h1>, a line below it, its actions and a way back. */

import { classes, html } from "../lib/ui.js";
import { t } from "../lib/texts.js";
import { Icon } from "./icons.js";

/** `title`: text or elements; `summary`: a line below; `actions`: buttons; `back`: {href, label}; `wide`: uses the whole width. */
export function Page({ title, summary, actions, back, wide = false, className, children }) {
  return html`<section class=${classes("page", wide && "wide", className)}>
    ${back && html`<a class="back" href=${back.href}><${Icon} name="back" size=${18} />${back.label ?? t("common.back")}</a>`}
    <div class="page-head"><div class="page-title"><h1 tabindex="-1">${title}</h1>${summary !== undefined && html`<p class="summary">${summary}</p>`}</div>
      ${actions && html`<div class="page-actions">${actions}</div>`}</div>
    ${children}
  </section>`;
}
