/** What the person's peer leaves out of a folder, counted, with names and reasons. */

import { t } from "../../lib/texts.js";
import { html, useState } from "../../lib/ui.js";
import { Button, Name, Notice } from "../../parts/index.js";

const WHY = new Set(["unreadable", "gone", "link", "link_loop", "name", "too_deep", "special", "too_large"]);
const SHOWN_MAX = 50;

const Why = ({ why }) => t(`browse.why.${why}`);

export function LeftOut({ listing }) {
  const [isOpen, setOpen] = useState(false);
  const { leftOut, leftOutCount } = listing;
  if (leftOutCount === 0) return null;
  const toggle = html`<${Button} kind="quiet" aria-expanded=${String(isOpen)} onClick=${() => setOpen(!isOpen)}>${t(isOpen ? "browse.hide_details" : "browse.show_details")}<//>`;
  return html`<${Notice} kind="warning" actions=${leftOut.length > 0 && toggle}><p>${t("browse.left_out", { n: leftOutCount })}</p>
    ${isOpen && html`<ul class="browse-left-out">${leftOut.slice(0, SHOWN_MAX).map(({ name, why }, index) => html`<li key=${index}><${Name}>${name}<//>: <${Why} why=${WHY.has(why) ? why : "other"} /></li>`)}
      ${leftOutCount > Math.min(SHOWN_MAX, leftOut.length) && html`<li>${t("browse.further", { n: leftOutCount - Math.min(SHOWN_MAX, leftOut.length) })}</li>`}</ul>`}
  <//>`;
}
