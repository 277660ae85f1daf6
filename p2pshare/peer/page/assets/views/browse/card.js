/** What is known of a file that the page cannot show, and its downloads. */

import { bytes, t } from "../../lib/texts.js";
import { html } from "../../lib/ui.js";
import { Button, Icon, Name } from "../../parts/index.js";
import { downloadItems } from "./downloads.js";
import { iconOf } from "./kinds.js";
import { changedText } from "./rows.js";

/** `reason`: why it is not shown, as a sentence; `onRetry` if another attempt may help. */
export function Card({ person, folder, entry, reason, onRetry }) {
  const items = downloadItems(person, folder, [entry]);
  return html`<div class="viewer-card">
    <${Icon} name=${iconOf(entry)} size=${56} />
    <p class="viewer-card-name"><${Name}>${entry.name}<//></p>
    <p>${[bytes(entry.bytes), entry.modified === null ? "" : changedText(entry.modified)].filter(Boolean).join(" · ")}</p>
    <p role=${reason ? "alert" : undefined}>${reason ?? t("viewer.not_shown")}</p>
    <div class="viewer-card-actions">
      ${onRetry && html`<${Button} icon="retry" onClick=${onRetry}>${t("common.try_again")}<//>`}
      ${items.map((item, index) => html`<${Button} key=${index} kind=${index === 0 ? "primary" : "plain"} icon=${item.icon} onClick=${item.onClick}>${item.label}<//>`)}
    </div>
  </div>`;
}
