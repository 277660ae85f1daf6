/** What is left out of an offer or a share: hidden names, names that a pattern leaves out, and what cannot be shared, with some examples. */

import { hasText, t } from "../lib/texts.js";
import { html } from "../lib/ui.js";
import { Name } from "./controls.js";

/** `leftOut`: `left_out` of an offer or a share. */
export function LeftOut({ leftOut }) {
  const { hidden, excluded, omitted = {} } = leftOut;
  const reasons = Object.entries(omitted);
  return html`<ul class="left-out">
    ${hidden > 0 && html`<li>${t("shares.left.hidden", { n: hidden })}<${Examples} names=${leftOut.hidden_examples} /></li>`}
    ${excluded > 0 && html`<li>${t("shares.left.excluded", { n: excluded })}<${Examples} names=${leftOut.excluded_examples} /></li>`}
    ${reasons.map(([why, n]) => html`<li key=${why}>${hasText(`shares.left.${why}`) ? t(`shares.left.${why}`, { n }) : t("shares.left.other", { n })}</li>`)}
    ${reasons.length > 0 && html`<li class="left-out-more"><${Examples} names=${leftOut.omitted_examples} /></li>`}
    ${leftOut.complete === false && html`<li>${t("shares.left.incomplete", { n: leftOut.looked_at })}</li>`}
  </ul>`;
}

/** Return the number of names that are left out. */
export const leftOutCount = (leftOut) => (leftOut ? leftOut.hidden + leftOut.excluded + Object.values(leftOut.omitted ?? {}).reduce((sum, n) => sum + n, 0) : 0);

function Examples({ names }) {
  if (!names?.length) return null;
  return html`<span class="left-out-names">${names.map((name, index) => html`${index > 0 && " "}<code key=${name}><${Name}>${name}<//></code>`)}</span>`;
}
