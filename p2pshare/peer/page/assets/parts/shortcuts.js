/** The list of keys, in a dialog that "?" opens, and the switch that turns keys off which act wherever the focus is. Loaded when it is wanted. */

import { isRightToLeft, t } from "../lib/texts.js";
import { allowShortcuts, hasShortcuts, html, useState } from "../lib/ui.js";
import { Button, Switch } from "./controls.js";
import { Dialog, show } from "./dialogs.js";

const [NEXT, BACK] = isRightToLeft() ? ["\u2190", "\u2192"] : ["\u2192", "\u2190"];
const ROWS = { // for each part of the page: a text, and the keys that do it
  everywhere: [["help", "?"], ["search", "/"], ["leave", "Esc"]],
  lists: [["move", "\u2191 \u2193"], ["ends", "Home End"], ["open", "Enter"], ["letters", "A\u2026Z"]],
  files: [["select", "Space"], ["extend", "Shift+\u2193"], ["all", "Ctrl+A"], ["up", "Backspace"], ["menu", "Shift+F10"]],
  viewer: [["step", `${BACK} ${NEXT}`], ["zoom", "+ - 0"]],
  transfers: [["pause", "P"], ["retry", "R"], ["cancel", "Delete"]],
};

let isOpen = false;

/** Open the list, once. */
export function showShortcuts() {
  if (isOpen) return;
  isOpen = true;
  show((close) => html`<${Shortcuts} onClose=${() => {
    isOpen = false;
    close();
  }} />`);
}

function Shortcuts({ onClose }) {
  const [isOn, setOn] = useState(hasShortcuts());
  const change = (on) => {
    allowShortcuts(on);
    setOn(on);
  };
  return html`<${Dialog} title=${t("common.keys.title")} className="shortcuts" onClose=${onClose} actions=${html`<${Button} kind="primary" autofocus onClick=${onClose}>${t("common.close")}<//>`}>
    ${Object.entries(ROWS).map(([part, rows]) => html`<h3 key=${part}>${t(`common.keys.parts.${part}`)}</h3><dl class="facts">
      ${rows.map(([what, keys]) => html`<dt key=${what}>${keys.split(" ").map((key) => html`<kbd dir="ltr">${key}</kbd> `)}</dt><dd>${t(`common.keys.does.${what}`)}</dd>`)}</dl>`)}
    <${Switch} label=${t("common.keys.on")} hint=${t("common.keys.on_hint")} checked=${isOn} onChange=${change} />
  <//>`;
}
